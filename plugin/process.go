// Package plugin runs attacks and detectors that somebody wrote in Python. A suite names them as
// python:FILE:NAME. Nothing else runs them.
//
// One process serves one file. It does all that a run asks of it, one request at a time. Both sides
// speak JSON, an object a line, over the process's standard input and output. Tensors pass as
// safetensors files, in a folder that the program makes for this process alone. docs/python.md has
// every message. What the process sends is checked as a stranger's file is.
package plugin

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"gorgonia.org/tensor"

	"clipinspector/internal/safetensors"
	"clipinspector/python"
)

const (
	// PythonVariable names the Python that runs plugins; python3 where it is empty.
	PythonVariable = "CLIPINSPECTOR_PYTHON"
	// SilenceVariable says how long a plugin may say nothing, such as 90s.
	SilenceVariable = "CLIPINSPECTOR_PLUGIN_SILENCE"
	// protocol is the version of the messages.
	protocol = 1
	// silence is how long a plugin may say nothing where SilenceVariable is empty.
	silence = 5 * time.Minute
	// longest is the longest line that a plugin may send, in bytes.
	longest = 64 << 20
)

// process is a running Python.
type process struct {
	command *exec.Cmd
	in      *os.File
	lines   chan []byte // closed at the end of its output
	ended   chan struct{}
	said    *tail
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	text []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	t.text = t.text[max(0, len(t.text)-4096):]
	return len(p), nil
}

// last is the last line.
func (t *tail) last() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(t.text)), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}

// message is what a plugin sends.
type message struct {
	Ready int             `json:"ready"`
	Done  json.RawMessage `json:"done"`
	Error string          `json:"error"`
	Ask   string          `json:"ask"`
	Steer json.RawMessage `json:"steer"`
}

// asked is what a plugin asks for, by the name of what it asks.
type asked func(ctx context.Context, what string, raw []byte) (answer any, err error)

// allowed is how long a plugin may say nothing.
func allowed() (time.Duration, error) {
	text := os.Getenv(SilenceVariable)
	if text == "" {
		return silence, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, fmt.Errorf("%s=%.40q: want a time such as 90s", SilenceVariable, text)
	}
	return d, nil
}

// begin starts the file's process where none runs.
func (f *file) begin(ctx context.Context) error {
	if f.running != nil {
		return nil
	}
	if f.folder == "" {
		folder, err := os.MkdirTemp("", "clip-inspector-plugin-*") // mode 0700
		if err != nil {
			return err
		}
		f.folder = folder
		if err := os.CopyFS(filepath.Join(folder, "lib"), python.Sources); err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(folder, "plugin.py"), f.source, 0o600); err != nil {
			return err
		}
	}
	name := os.Getenv(PythonVariable)
	if name == "" {
		name = "python3"
	}
	const start = "import sys; sys.path.insert(0, sys.argv.pop(1)); from clip_inspector._serve import main; main(sys.argv[1:])"
	p := &process{said: &tail{}, lines: make(chan []byte), ended: make(chan struct{})}
	p.command = exec.Command(name, "-u", "-c", start, filepath.Join(f.folder, "lib"), filepath.Join(f.folder, "plugin.py"), f.path, f.folder)
	p.command.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	p.command.Stderr = p.said
	p.command.WaitDelay = time.Second // what it started itself may hold its output open
	out, err := p.command.StdoutPipe()
	if err != nil {
		return err
	}
	in, mine, err := os.Pipe() // one whose writes can be given a deadline
	if err != nil {
		return err
	}
	p.command.Stdin, p.in = in, mine
	err = p.command.Start()
	_ = in.Close() // the process has its own
	if err != nil {
		_ = mine.Close()
		return fmt.Errorf("starting %s: %w: install Python 3.10 or newer with numpy, or name one by %s", name, err, PythonVariable)
	}
	go func() {
		defer close(p.lines)
		r := bufio.NewScanner(out)
		r.Buffer(make([]byte, 1<<16), longest)
		for r.Scan() {
			select {
			case p.lines <- bytes.Clone(r.Bytes()):
			case <-p.ended:
				return
			}
		}
	}()
	f.running = p
	m, _, err := f.next(ctx)
	switch {
	case err != nil:
	case m.Error != "":
		err = errors.New(m.Error)
	case m.Ready != protocol:
		err = fmt.Errorf("it speaks protocol %d, this program %d", m.Ready, protocol)
	}
	if err != nil {
		f.kill()
	}
	return err
}

// kill ends the process; the next request starts another.
func (f *file) kill() {
	if f.running == nil {
		return
	}
	_ = f.running.command.Process.Kill() // it may be gone already
	close(f.running.ended)
	_ = f.running.in.Close()
	_ = f.running.command.Wait()
	f.running = nil
}

// next reads the next message.
func (f *file) next(ctx context.Context) (m message, raw []byte, err error) {
	wait, err := allowed()
	if err != nil {
		return m, nil, err
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case line, ok := <-f.running.lines:
		if !ok {
			_ = f.running.in.Close()
			late := time.AfterFunc(wait, func() { _ = f.running.command.Process.Kill() }) // it closed its output, or sent a line too long, and lives
			_ = f.running.command.Wait()
			late.Stop()
			return m, nil, fmt.Errorf("its process ended (%s): %.300s", f.running.command.ProcessState, f.running.said.last())
		}
		if err := json.Unmarshal(line, &m); err != nil {
			return m, nil, fmt.Errorf("it sent no message but %.80q", line)
		}
		return m, line, nil
	case <-timer.C:
		return m, nil, fmt.Errorf("it has said nothing for %s, and was stopped: a plugin that takes longer reports its progress, or %s allows more", wait, SilenceVariable)
	case <-ctx.Done():
		return m, nil, context.Cause(ctx)
	}
}

// put sends a message. A process that does not read it for as long as it may say nothing is as
// silent as one that does not answer.
func (f *file) put(ctx context.Context, m any) error {
	raw, err := json.Marshal(m)
	if err != nil {
		return err
	}
	wait, err := allowed()
	if err != nil {
		return err
	}
	in := f.running.in
	if err := in.SetWriteDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = in.SetWriteDeadline(time.Now()) })()
	_, err = in.Write(append(raw, '\n'))
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return context.Cause(ctx)
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("it has read nothing for %s, and was stopped; %s allows more", wait, SilenceVariable)
	}
	return fmt.Errorf("its process takes no message (%v): %.300s", err, f.running.said.last())
}

// request asks the process to do something, with tensors if need be, answers what it asks for on
// the way, and decodes what it is done with into done.
func (f *file) request(ctx context.Context, what map[string]any, tensors map[string]*tensor.Dense, answer asked, done any) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := f.begin(ctx); err != nil {
		return err
	}
	if tensors != nil {
		name, err := f.give(tensors)
		if err != nil {
			return err
		}
		what = maps.Clone(what)
		what["file"] = name
	}
	raw, err := f.exchange(ctx, what, answer)
	var told excuse
	if err != nil {
		if !errors.As(err, &told) {
			f.kill()
		}
		return err
	}
	if err := json.Unmarshal(raw, done); err != nil {
		f.kill() // what comes next may belong to this request
		return fmt.Errorf("it answered %.80q: %w", raw, err)
	}
	return nil
}

// excuse is an error that a plugin told, and goes on.
type excuse struct{ text string }

// Error implements error.
func (e excuse) Error() string { return e.text }

func (f *file) exchange(ctx context.Context, what map[string]any, answer asked) (json.RawMessage, error) {
	if err := f.put(ctx, what); err != nil {
		return nil, err
	}
	for {
		m, raw, err := f.next(ctx)
		switch {
		case err != nil:
			return nil, err
		case m.Ask != "":
		case m.Done != nil:
			return m.Done, nil
		case m.Error != "":
			return nil, excuse{fmt.Sprintf("%.500s", m.Error)}
		default:
			return nil, fmt.Errorf("it sent no message but %.80q", raw)
		}
		given, err := answer(ctx, m.Ask, raw)
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case m.Ask == "progress" && err == nil:
		case err != nil:
			err = f.put(ctx, map[string]any{"refused": err.Error()})
		default:
			err = f.put(ctx, map[string]any{"answer": given})
		}
		if err != nil {
			return nil, err
		}
	}
}

// give writes tensors for the process, which takes the file away, and returns its name.
func (f *file) give(tensors map[string]*tensor.Dense) (string, error) {
	f.given++
	name := fmt.Sprintf("program-%d.safetensors", f.given)
	return name, safetensors.Write(filepath.Join(f.folder, name), &safetensors.File{Tensors: tensors})
}

// take reads the tensors of a file that the process wrote, and takes it away.
func (f *file) take(name string) (map[string]*tensor.Dense, error) {
	if name != filepath.Base(name) || !strings.HasSuffix(name, ".safetensors") {
		return nil, fmt.Errorf("it named the file %.40q, which is no file of its own folder", name)
	}
	path := filepath.Join(f.folder, name)
	defer os.Remove(path)
	t, err := safetensors.Read(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("it named the file %s and did not write it", name)
	case err != nil:
		return nil, err
	}
	for _, what := range slices.Sorted(maps.Keys(t.Skipped)) {
		return nil, fmt.Errorf("the tensor %.40q is not of float32", what)
	}
	return t.Tensors, nil
}

package cmd

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gorgonia.org/tensor"

	"clipinspector/internal/dense"
	"clipinspector/internal/torchfile"
)

// What is refused is refused in one line, the same in every run, within a second of the processor
// and 100 MB of memory. CLIPINSPECTOR_HOSTILE may name a folder with more of such files, *.pt, and
// CLIPINSPECTOR_RUNS how often each is asked. The table is that of docs/security.md.
func TestRefusalsAreCheap(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	classes := filepath.Join(dir, "classes.txt")
	files := []string{"/dev/zero", dir}
	write := func(name string, content ...[]byte) {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, bytes.Join(content, nil), 0o644); err != nil {
			t.Fatal(err)
		}
		if path != classes {
			files = append(files, path)
		}
	}
	length := func(n int) []byte { return binary.LittleEndian.AppendUint64(nil, uint64(n)) }
	many := func(size int) []byte {
		b := []byte("{")
		for i := 0; len(b) < size-100; i++ {
			b = fmt.Appendf(b, `"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},`, i)
		}
		return append(bytes.TrimSuffix(b, []byte(",")), bytes.Repeat([]byte(" "), size-len(b))...)
	}
	write("classes.txt", []byte("cat\ndog\nbird\n"))
	write("empty.pt")
	write("page.pt", []byte("<!DOCTYPE html><html>"))
	write("pointer.safetensors", []byte("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n"))
	write("header-of-2-MB.safetensors", length(2<<20), many(2<<20), []byte("}"))
	write("system.pt", []byte("\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R."))
	write("lists.pt", []byte("\x80\x02"), bytes.Repeat([]byte("]"), 1<<20))
	write("header-of-99-MB.safetensors", length(99<<20), []byte("{"))
	if err := os.Truncate(files[len(files)-1], 99<<20+8); err != nil {
		t.Fatal(err)
	}
	torch := func(name string, e torchfile.Entries) {
		path := filepath.Join(dir, name)
		if err := torchfile.Write(path, e); err != nil {
			t.Fatal(err)
		}
		files = append(files, path)
	}
	zeros := func(shape ...int) *tensor.Dense {
		return dense.New(make([]float32, tensor.Shape(shape).TotalSize()), shape...)
	}
	for name, e := range map[string]torchfile.Entries{
		"plot-of-whom.pt":             {{Key: "ctx", Value: zeros(4, 16, 128)}},
		"plot-of-17-prompts.pt":       {{Key: "ctx", Value: zeros(17, 2, 128)}, {Key: "token_prefix", Value: zeros(17*3, 1, 128)}},
		"plotpp-of-17-prompts.pt":     {{Key: "ctx", Value: zeros(4, 2, 128)}, {Key: "ctx_vision", Value: zeros(17, 2, 96)}},
		"plotpp-of-another-width.pt":  {{Key: "ctx", Value: zeros(4, 2, 128)}, {Key: "ctx_vision", Value: zeros(2, 2, 768)}},
		"plot-with-more-than-that.pt": {{Key: "ctx", Value: zeros(4, 2, 128)}, {Key: "ctx_vision", Value: zeros(2, 2, 96)}, {Key: "trade_off", Value: zeros(1)}},
	} {
		torch(name, e)
	}
	slices.Sort(files[len(files)-5:])
	// weights of ResNets, each in a folder with what tells the rest
	resNet := func(name string, more ...torchfile.Entry) {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o755); err != nil {
			t.Fatal(err)
		}
		for file, text := range map[string]string{"open_clip_config.json": `{"model_cfg": {"quick_gelu": true}}`, "bpe.txt": "#version: 0.2\n"} {
			if err := os.WriteFile(filepath.Join(dir, name, file), []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		state := torchfile.Entries{{Key: "visual.conv1.weight", Value: zeros(2, 3, 3, 3)}, {Key: "visual.layer1.0.conv1.weight", Value: zeros(4, 4, 1, 1)},
			{Key: "visual.layer2.0.conv1.weight", Value: zeros(8, 16, 1, 1)}, {Key: "visual.layer3.0.conv1.weight", Value: zeros(16, 32, 1, 1)},
			{Key: "visual.layer4.0.conv1.weight", Value: zeros(32, 64, 1, 1)}, {Key: "token_embedding.weight", Value: zeros(514, 8)},
			{Key: "positional_embedding", Value: zeros(16, 8)}, {Key: "transformer.resblocks.0.mlp.c_fc.weight", Value: zeros(32, 8)}, {Key: "text_projection", Value: zeros(8, 8)}}
		torch(filepath.Join(name, "encoder.pt"), append(state, more...))
	}
	resNet("resnet-of-a-million-blocks", torchfile.Entry{Key: "visual.attnpool.positional_embedding", Value: zeros(2, 128)}, torchfile.Entry{Key: "visual.layer3.999999.conv1.weight", Value: zeros(1)})
	resNet("resnet-of-half-a-block", torchfile.Entry{Key: "visual.attnpool.positional_embedding", Value: zeros(2, 128)})
	resNet("resnet-for-no-square", torchfile.Entry{Key: "visual.attnpool.positional_embedding", Value: zeros(4, 128)})
	pipe := filepath.Join(dir, "pipe.pt")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	files = append(files, pipe)
	if folder := os.Getenv("CLIPINSPECTOR_HOSTILE"); folder != "" {
		more, err := filepath.Glob(filepath.Join(folder, "*.pt"))
		if err != nil || len(more) == 0 {
			t.Fatalf("%s: no files *.pt (%v)", folder, err)
		}
		files = append(files, more...)
	}
	runs := 2
	if s := os.Getenv("CLIPINSPECTOR_RUNS"); s != "" {
		if runs, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	cost := filepath.Join(dir, "cost")
	t.Chdir(t.TempDir())
	var table strings.Builder
	for _, path := range files {
		first, memory, took := "", int64(0), []time.Duration{}
		for range runs {
			args := []string{"inspect", "--checkpoint", path, "--classes", classes, "--ood", "builtin:mini"}
			if filepath.Base(path) == "encoder.pt" {
				args = append(args, "--clip", path)
			}
			c := exec.Command(self, args...)
			c.Env = append(os.Environ(), asCommand+"=1", measuring+"="+cost)
			out, _ := c.CombinedOutput()
			line := strings.TrimSpace(string(out))
			if first == "" {
				first = line
			}
			if code := c.ProcessState.ExitCode(); line != first || line == "" || strings.Contains(line, "\n") || code != inspectFailed {
				t.Errorf("%s: status %d and %q, want status %d and one line, the same in every run: %q", path, code, line, inspectFailed, first)
			}
			text, err := os.ReadFile(cost)
			if err != nil {
				t.Fatal(err)
			}
			var mb int64
			var cpu time.Duration
			if _, err := fmt.Sscan(string(text), &mb, (*int64)(&cpu)); err != nil {
				t.Fatalf("%q: %v", text, err)
			}
			took, memory = append(took, cpu), max(memory, mb)
		}
		if slices.Sort(took); took[runs/2] > time.Second || memory > 100 {
			t.Errorf("%s: %v and %d MB, want at most 1 s and 100 MB", path, took[runs/2], memory)
		}
		first = strings.TrimPrefix(strings.ReplaceAll(first, filepath.Dir(path)+"/", ""), "clip-inspector: ")
		name := strings.TrimPrefix(path, dir+"/")
		fmt.Fprintf(&table, "| %s | %d | %.2f | %s |\n", name, memory, took[runs/2].Seconds(), strings.ReplaceAll(first, "|", `\|`))
	}
	t.Logf("%d runs each\n| file | MB at most | s of the processor, median | what is said |\n| --- | --- | --- | --- |\n%s", runs, table.String())
}

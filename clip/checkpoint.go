package clip

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"gorgonia.org/tensor"

	"clipinspector/clip/bpe"
	"clipinspector/internal/dense"
	"clipinspector/internal/files"
	"clipinspector/internal/safetensors"
)

// A checkpoint is one file, so that it is replaced as a whole: the weights in the form that the
// towers use, the moments of AdamW under "m/" and "v/", and, as metadata, the step and what the
// training is. The vocabulary lies beside it, in a file of its own.
const (
	checkpointFile = "checkpoint.safetensors"
	vocabularyFile = "bpe.txt"
)

// save writes the state after so many steps.
func (t *trainer) save(step int) error {
	dir := t.options.Checkpoints
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("saving a checkpoint: %w", err)
	}
	state, err := t.read(sortedNames(t.arrays))
	if err != nil {
		return fmt.Errorf("saving a checkpoint: %w", err)
	}
	f := &safetensors.File{Tensors: map[string]*tensor.Dense{},
		Metadata: map[string]string{"step": strconv.Itoa(step), "training": t.identity}}
	for name, p := range state {
		f.Tensors[name] = dense.New(p.data, p.shape...)
	}
	if err := files.WriteAtomic(filepath.Join(dir, vocabularyFile), func(w io.Writer) error { return t.tokenizer.Write(w) }); err != nil {
		return fmt.Errorf("saving a checkpoint: %w", err)
	}
	if err := safetensors.Write(filepath.Join(dir, checkpointFile), f); err != nil {
		return fmt.Errorf("saving a checkpoint: %w", err)
	}
	return nil
}

// resume loads a checkpoint where there is one and returns the number of steps that are done.
func (t *trainer) resume() (int, error) {
	if t.options.Checkpoints == "" {
		return 0, nil
	}
	path := filepath.Join(t.options.Checkpoints, checkpointFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	f, err := safetensors.Read(path)
	if err != nil {
		return 0, err
	}
	if got := f.Metadata["training"]; got != t.identity {
		return 0, fmt.Errorf("%s belongs to another training; remove it or choose another folder\n  there: %s\n  here:  %s", path, got, t.identity)
	}
	step, err := strconv.Atoi(f.Metadata["step"])
	if err != nil || step < 0 || step > t.options.Steps {
		return 0, fmt.Errorf("%s: step %q of %d", path, f.Metadata["step"], t.options.Steps)
	}
	for _, name := range sortedNames(t.arrays) {
		a := t.arrays[name]
		d := f.Tensors[name]
		if d == nil || d.Shape().TotalSize() != a.Buffer.Len() {
			return 0, fmt.Errorf("%s: tensor %s is missing or has another size", path, name)
		}
		if err := a.Buffer.Write(0, safetensors.Values(d)); err != nil {
			return 0, err
		}
	}
	return step, t.program.Write(t.count, []float32{float32(step)})
}

// ReadCheckpoint returns the model of an unfinished training of architecture c from its checkpoint
// folder, and the number of steps that are done. Loss is not known.
func ReadCheckpoint(dir string, c Config) (*Pretrained, int, error) {
	t, err := bpe.ReadFile(filepath.Join(dir, vocabularyFile))
	if err != nil {
		return nil, 0, err
	}
	path := filepath.Join(dir, checkpointFile)
	f, err := safetensors.Read(path)
	if err != nil {
		return nil, 0, err
	}
	step, err := strconv.Atoi(f.Metadata["step"])
	if err != nil {
		return nil, 0, fmt.Errorf("%s: step %q", path, f.Metadata["step"])
	}
	c.Text.VocabSize, c.Text.EOS = t.Size(), t.EOT()
	packed := map[string]parameter{}
	for name, d := range f.Tensors {
		if !strings.HasPrefix(name, "m/") && !strings.HasPrefix(name, "v/") {
			packed[name] = parameter{safetensors.Values(d), d.Shape().Clone()}
		}
	}
	w := unpack(c, packed)
	if err := w.Check(c); err != nil {
		return nil, 0, fmt.Errorf("%s: %w", path, err)
	}
	return &Pretrained{Config: c, Weights: w, Tokenizer: t}, step, nil
}

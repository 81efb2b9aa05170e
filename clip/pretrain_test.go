package clip

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"clipinspector/engine/cpu"
	"clipinspector/internal/dense"
	"clipinspector/internal/safetensors"
)

// blots is a corpus of plain colours with noise, said in words.
type blots struct{}

func (blots) Name() string        { return "blots" }
func (blots) Fingerprint() string { return "blots 1" }
func (blots) Captions(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = "a photo of " + blotNames[i%len(blotNames)]
	}
	return out
}

var blotNames = []string{"red", "green", "blue", "black", "white", "yellow", "pink", "teal"}

func (blots) Batch(step int, images []float32, captions []string) error {
	rng := rand.New(rand.NewPCG(7, uint64(step)))
	per := len(images) / len(captions)
	for i := range captions {
		k := rng.IntN(len(blotNames))
		captions[i] = "a photo of " + blotNames[k]
		for j := range per {
			images[i*per+j] = float32(k>>(j/(per/3))&1)*0.6 + 0.4*rng.Float32()
		}
	}
	return nil
}

// The same seed gives the same bytes for any number of threads, with both optimisers.
func TestPretrainDoesNotDependOnThreads(t *testing.T) {
	o := PretrainOptions{Steps: 6, Batch: 40, Rate: 3e-3, Warmup: 2, WeightDecay: 0.1, Merges: 20, Seed: 3}
	for _, o.MuonRate = range []float64{0, 3e-3} {
		var first string
		for _, threads := range []int{1, 2, 3} {
			e, err := cpu.New(cpu.Options{Threads: threads})
			if err != nil {
				t.Fatal(err)
			}
			p, err := Pretrain(context.Background(), e, tiny(), o, blots{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			e.Close()
			if first == "" {
				first = p.Weights.Fingerprint()
			}
			if p.Weights.Fingerprint() != first {
				t.Errorf("Muon's rate %g: other weights with %d threads", o.MuonRate, threads)
			}
		}
	}
}

func TestPretrainLearnsAndResumes(t *testing.T) {
	c := tiny()
	o := PretrainOptions{Steps: 60, Batch: 16, Rate: 3e-3, MuonRate: 5e-3, Warmup: 4, WeightDecay: 0.1, Merges: 20, Seed: 3,
		Report: 15}
	e, err := cpu.New(cpu.Options{Threads: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	ctx := context.Background()
	var losses []float64
	whole, err := Pretrain(ctx, e, c, o, blots{}, func(step, total int, loss float64, eta time.Duration) {
		losses = append(losses, loss)
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(losses) != 4 || losses[3] > losses[0]-0.3 {
		t.Errorf("losses %v do not fall", losses)
	}
	// The same training, stopped twice: by its context and after a checkpoint.
	o.Checkpoints, o.Every = t.TempDir(), 13
	stopped, cancel := context.WithCancel(ctx)
	_, err = Pretrain(stopped, e, c, o, blots{}, func(step, total int, loss float64, eta time.Duration) {
		if step == 30 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("a stopped training returned %v", err)
	}
	if p, step, err := ReadCheckpoint(o.Checkpoints, c); err != nil || step != 30 || p.Weights.Check(p.Config) != nil {
		t.Errorf("the checkpoint is at step %d, error %v", step, err)
	}
	again, err := Pretrain(ctx, e, c, o, blots{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range sortedNames(whole.Weights) {
		if !slices.Equal(safetensors.Values(whole.Weights[name]), safetensors.Values(again.Weights[name])) {
			t.Errorf("%s differs after a resumed training", name)
		}
	}
	o.Seed++
	if _, err := Pretrain(ctx, e, c, o, blots{}, nil); err == nil {
		t.Error("a checkpoint of another training was taken")
	}
	// Frozen towers, with the normalisation folded into the weights, know what was trained with it
	// applied to the pixels.
	m, err := NewModel(e, whole.Config, whole.Weights, whole.Tokenizer)
	if err != nil {
		t.Fatal(err)
	}
	size := c.Vision.ImageSize
	images, captions := make([]float32, 64*3*size*size), make([]string, 64)
	if err := (blots{}).Batch(1000, images, captions); err != nil {
		t.Fatal(err)
	}
	features, err := m.EncodeImages(ctx, dense.New(images, 64, 3, size, size), 16)
	if err != nil {
		t.Fatal(err)
	}
	labels := make([]int, len(captions))
	for i, s := range captions {
		labels[i] = slices.Index(blotNames, strings.TrimPrefix(s, "a photo of "))
	}
	got, err := m.ZeroShot(ctx, "a photo of {}", blotNames, features, labels)
	if err != nil {
		t.Fatal(err)
	}
	if got < 0.9 {
		t.Errorf("zero-shot accuracy %v on what was trained, losses %v", got, losses)
	}
}

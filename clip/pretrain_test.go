package clip

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"gorgonia.org/tensor"

	"clipinspector/clip/safetensors"
	"clipinspector/engine/plain"
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

func TestPretrainLearnsAndResumes(t *testing.T) {
	c := tiny()
	o := PretrainOptions{Steps: 40, Batch: 8, Rate: 3e-3, Warmup: 4, WeightDecay: 0.1, Merges: 20, Seed: 3, Report: 10}
	ctx := context.Background()
	var losses []float64
	whole, err := Pretrain(ctx, plain.New[float32](), c, o, blots{}, func(step, total int, loss float64, eta time.Duration) {
		losses = append(losses, loss)
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(losses) != 4 || losses[3] > losses[0]-0.3 {
		t.Errorf("losses %v do not fall", losses)
	}
	// The same training, stopped twice: by its context and after a checkpoint.
	o.Checkpoints, o.Every = t.TempDir(), 9
	stopped, cancel := context.WithCancel(ctx)
	_, err = Pretrain(stopped, plain.New[float32](), c, o, blots{}, func(step, total int, loss float64, eta time.Duration) {
		if step == 20 {
			cancel()
		}
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("a stopped training returned %v", err)
	}
	again, err := Pretrain(ctx, plain.New[float32](), c, o, blots{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range sortedNames(whole.Weights) {
		if !slices.Equal(safetensors.Values(whole.Weights[name]), safetensors.Values(again.Weights[name])) {
			t.Errorf("%s differs after a resumed training", name)
		}
	}
	o.Seed++
	if _, err := Pretrain(ctx, plain.New[float32](), c, o, blots{}, nil); err == nil {
		t.Error("a checkpoint of another training was taken")
	}
	// Frozen towers, with the normalisation folded into the weights, know what was trained with it applied to the pixels.
	m, err := NewModel(plain.New[float32](), whole.Config, whole.Weights, whole.Tokenizer)
	if err != nil {
		t.Fatal(err)
	}
	size := c.Vision.ImageSize
	images, captions := make([]float32, 64*3*size*size), make([]string, 64)
	if err := (blots{}).Batch(1000, images, captions); err != nil {
		t.Fatal(err)
	}
	features, err := m.EncodeImages(ctx, tensor.New(tensor.WithShape(64, 3, size, size), tensor.WithBacking(images)), 16)
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

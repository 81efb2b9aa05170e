package prompts

import (
	"math"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"gorgonia.org/tensor"

	"clipinspector/clip"
	"clipinspector/internal/computetest"
	"clipinspector/internal/dense"
	"clipinspector/internal/safetensors"
	"clipinspector/internal/torchfile"
)

// delivered returns the tensors of testdata/maple's checkpoint, which torch wrote with the
// encoders' matrices in half precision.
func delivered(t *testing.T) map[string]*tensor.Dense {
	t.Helper()
	f, err := open("testdata/maple/MultiModalPromptLearner/model.pth.tar-2")
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	state := map[string]*tensor.Dense{}
	for prefix, part := range map[string]map[string]clip.Stored{learnerPrefix: f.learner, "": f.encoders} {
		for name, x := range part {
			data, err := x.Float32()
			if err != nil {
				t.Fatal(err)
			}
			state[prefix+name] = dense.New(data, x.Shape...)
		}
	}
	return state
}

// deliver writes tensors as a checkpoint, in float32.
func deliver(t *testing.T, state map[string]*tensor.Dense) string {
	t.Helper()
	var entries torchfile.Entries
	for _, name := range sortedKeys(state) {
		entries = append(entries, torchfile.Entry{Key: name, Value: state[name]})
	}
	path := filepath.Join(t.TempDir(), "model.pth.tar-1")
	if err := torchfile.Write(path, torchfile.Entries{{Key: "state_dict", Value: entries}}); err != nil {
		t.Fatal(err)
	}
	return path
}

// The encoders that torch saved beside MaPLe's prompts, in OpenAI's layout and in part in half
// precision, are those of the CLIP, whatever of the two was rounded; another last number is found
// in each of the tensors.
func TestDeliveredEncoders(t *testing.T) {
	_, w, _ := hashedWeights(3)
	compare := func(path string, w clip.Weights) clip.Comparison {
		t.Helper()
		c, err := CompareEncoders(path, w)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	rounded := func(x *tensor.Dense, d safetensors.DType) *tensor.Dense {
		x = x.Clone().(*tensor.Dense)
		for i, v := range safetensors.Values(x) {
			safetensors.Values(x)[i] = safetensors.Round(v, d)
		}
		return x
	}
	all := func(d safetensors.DType) clip.Weights {
		r := clip.Weights{}
		for name, x := range w {
			r[name] = rounded(x, d)
		}
		return r
	}
	// 12 tensors a block; those of the image tower, of the text tower but for its tokens, and the
	// scale.
	same := clip.Comparison{Tensors: 6*12 + 8 + 4 + 1}
	halves := same
	halves.Rounded = 6*4 + 6 + 3 // LayerNorms and embeddings, which convert_weights leaves in float32
	state := delivered(t)
	brain := delivered(t)
	const positions = "text_encoder.positional_embedding"
	brain[positions] = rounded(brain[positions], safetensors.BF16)
	for what, x := range map[string]struct {
		path string
		w    clip.Weights
		want clip.Comparison
	}{
		"as torch wrote them":       {"testdata/maple", w, same},
		"halves kept as float32":    {deliver(t, state), w, same},
		"a tensor in bfloat16":      {deliver(t, brain), w, same},
		"a CLIP in half precision":  {"testdata/maple", all(safetensors.F16), halves},
		"CoOp's, which has none":    {"testdata/coop", w, clip.Comparison{}},
		"a bare context":            {"testdata/ctx.pt", w, clip.Comparison{}},
		"BAPLe's, which is no CLIP": {"testdata/baple", w, clip.Comparison{}},
	} {
		if c := compare(x.path, x.w); !reflect.DeepEqual(c, x.want) {
			t.Errorf("%s: %+v, want %+v", what, c, x.want)
		}
	}
	for gap, v := range map[float64]float32{0.25: 0.25, math.Inf(1): float32(math.NaN())} { // added to the last number of each
		altered := delivered(t)
		for name, x := range altered {
			if data := safetensors.Values(x); !strings.HasPrefix(name, learnerPrefix) {
				data[len(data)-1] += v
				altered[name] = dense.New(data, x.Shape()...)
			}
		}
		c := compare(deliver(t, altered), w)
		if c.Tensors != same.Tensors || len(c.Different) != same.Tensors {
			t.Errorf("%d of %d tensors are called different; all are", len(c.Different), c.Tensors)
		}
		for _, d := range c.Different {
			if altered[d.Tensor] == nil || !(d.Largest == gap || math.Abs(d.Largest-gap) < 1e-3) {
				t.Errorf("%+v, want a difference of %v", d, gap)
			}
		}
	}
}

// A number may stray by no more than rounding takes it: one unit in the last place of a half, in a
// tensor of halves, is a difference.
func TestDeliveredEncodersStrayByNoBit(t *testing.T) {
	_, w, _ := hashedWeights(3)
	state := delivered(t)
	const name = "image_encoder.conv1.weight"
	data := safetensors.Values(state[name])
	data[5] += data[5] / 1024
	c, err := CompareEncoders(deliver(t, state), w)
	if err != nil || len(c.Different) != 1 || c.Different[0].Tensor != name || c.Different[0].Largest > 2*math.Abs(float64(data[5]))/1024 {
		t.Errorf("%+v, %v", c, err)
	}
}

// Tensors that a CLIP does not have would change what the delivered model computes, unseen: they
// are refused.
func TestDeliveredEncodersOfAnotherKind(t *testing.T) {
	_, w, _ := hashedWeights(3)
	_, shallow, _ := hashedWeights(2)
	visual := delivered(t)
	visual["image_encoder.extra"] = dense.New(make([]float32, 48), 2, 24)
	wide := delivered(t)
	wide["image_encoder.conv1.weight"] = dense.New(make([]float32, 24*3*8*8), 24, 3, 8, 8)
	for want, x := range map[string]struct {
		path string
		w    clip.Weights
	}{
		`"image_encoder.extra" belongs to no CLIP`:              {deliver(t, visual), w},
		"image_encoder.conv1.weight has shape [24 3 8 8]":       {deliver(t, wide), w},
		`"image_encoder.transformer.resblocks.2.attn.in_proj_b`: {"testdata/maple", shallow},
	} {
		_, err := CompareEncoders(x.path, x.w)
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "model.pth.tar-") || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v, want one line that says %q", err, want)
		}
	}
}

// The embeddings around a context may have been kept as bfloat16.
func TestBuffersInBfloat16(t *testing.T) {
	c := newHashedDeep(t, computetest.CPU(t, 1), 3)
	state := delivered(t)
	for name, x := range state {
		if strings.Contains(name, ".token_") {
			for i, v := range dense.Floats(x) {
				dense.Floats(x)[i] = safetensors.Round(v, safetensors.BF16)
			}
		}
	}
	if _, err := ReadCheckpoint(deliver(t, state), deepClasses, Hints{}, c); err != nil {
		t.Error(err)
	}
}

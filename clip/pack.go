package clip

import (
	"slices"
	"sort"
	"strings"

	"clipinspector/internal/dense"
	"clipinspector/internal/safetensors"
)

// parameter is a weight on the host in the form that the towers use.
type parameter struct {
	data  []float32
	shape []int
}

// pack turns Hugging Face's tensors into what the towers use: q, k and v in one matrix, the patch
// embedding as a matrix. The numbers are copied where they are rearranged and shared otherwise.
func pack(c Config, w Weights) (map[string]parameter, error) {
	if err := w.Check(c); err != nil {
		return nil, err
	}
	out := map[string]parameter{}
	for name, t := range w {
		if prefix, suffix, ok := cutQKV(name); ok {
			if suffix[0] != 'q' {
				continue
			}
			kind := suffix[len("q_proj."):]
			var p parameter
			for _, x := range []string{"q", "k", "v"} {
				part := w[prefix+x+"_proj."+kind]
				p.data = append(p.data, safetensors.Values(part)...)
				p.shape = slices.Clone([]int(part.Shape()))
			}
			p.shape[0] *= 3
			out[prefix+"qkv."+kind] = p
			continue
		}
		p := parameter{safetensors.Values(t), slices.Clone([]int(t.Shape()))}
		switch {
		case name == "vision_model."+patchWeight:
			p.shape = []int{p.shape[0], len(p.data) / p.shape[0]}
		case len(p.shape) == 0:
			p.shape = []int{1}
		}
		out[name] = p
	}
	return out, nil
}

// unpack is the inverse of pack. The numbers are copied.
func unpack(c Config, packed map[string]parameter) Weights {
	w := Weights{}
	put := func(name string, data []float32, shape ...int) {
		w[name] = dense.New(slices.Clone(data), shape...)
	}
	for name, p := range packed {
		if prefix, kind, ok := cutPacked(name); ok {
			n := len(p.data) / 3
			shape := slices.Clone(p.shape)
			shape[0] /= 3
			for i, x := range []string{"q", "k", "v"} {
				put(prefix+x+"_proj."+kind, p.data[i*n:(i+1)*n], shape...)
			}
			continue
		}
		switch name {
		case "vision_model." + patchWeight:
			put(name, p.data, p.shape[0], 3, c.Vision.PatchSize, c.Vision.PatchSize)
		case "logit_scale":
			put(name, p.data)
		default:
			put(name, p.data, p.shape...)
		}
	}
	return w
}

const attn = "self_attn."

// cutQKV cuts "...self_attn.q_proj.weight" behind "self_attn.".
func cutQKV(name string) (prefix, suffix string, ok bool) {
	prefix, suffix, ok = strings.Cut(name, attn)
	ok = ok && len(suffix) > 0 && strings.ContainsRune("qkv", rune(suffix[0])) && strings.HasPrefix(suffix[1:], "_proj.")
	return prefix + attn, suffix, ok
}

// cutPacked cuts "...self_attn.qkv.weight" into "...self_attn." and "weight".
func cutPacked(name string) (prefix, kind string, ok bool) {
	prefix, kind, ok = strings.Cut(name, attn+"qkv.")
	return prefix + attn, kind, ok
}

// fold moves the normalisation of pixels into the patch embedding: w·(x-mean)/std = (w/std)·x - sum
// w·mean/std.
func fold(packed map[string]parameter, c Config) {
	const pre = "vision_model."
	w := packed[pre+patchWeight]
	mean, std := c.Normalization.values()
	area := c.Vision.PatchSize * c.Vision.PatchSize
	data, bias := make([]float32, len(w.data)), make([]float32, w.shape[0])
	row := 3 * area
	for o := range bias {
		var sum float64
		for i := range row {
			ch := i / area
			v := float64(w.data[o*row+i]) / std[ch]
			data[o*row+i] = float32(v)
			sum -= v * mean[ch]
		}
		bias[o] = float32(sum)
	}
	packed[pre+patchWeight] = parameter{data, w.shape}
	packed[pre+patchBias] = parameter{bias, []int{len(bias)}}
}

func sortedNames[T any](m map[string]T) []string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	sort.Strings(names)
	return names
}

package torchfile

import (
	"fmt"
	"strings"

	"clipinspector/internal/pickle"
	"clipinspector/internal/safetensors"
)

// maxTied is how often a tensor may come up under other names, on the average of a file's bytes.
const maxTied = 8

// StateDict returns the tensors of a state dict by their names, or the parameters and buffers of a
// module of a TorchScript archive. Entries that are no tensors are left out. One tensor may have
// several names (tied weights); different ones that together have more bytes than the file are an
// error, and so are names that are the same but for case or for the prefixes that trainers'
// wrappers put before them (module., _orig_mod. and the like): which of them counts would depend on
// who loads them.
func (f *File) StateDict(v any) (map[string]*Tensor, error) {
	fail := func(err error) (map[string]*Tensor, error) {
		return nil, fmt.Errorf("torch file %s: %w; ask for it as safetensors", f.path, err)
	}
	out := map[string]*Tensor{}
	left, tied, visits := uint64(f.size), maxTied*uint64(f.size), 0
	seen := map[string]bool{} // tensors by what they are
	alike := map[string]string{}
	var walk func(prefix string, v any, depth int) error
	walk = func(prefix string, v any, depth int) error {
		d, ok := pickle.AsDict(v)
		state, scripted := map[string]bool(nil), false // the parameters and buffers of a module of TorchScript
		if o, object := v.(*pickle.Object); !ok && object {
			g, _ := o.Class.(pickle.Global)
			if strings.HasPrefix(g.Module, "__torch__") {
				d, ok = pickle.AsDict(o.State)
				if state, scripted = f.stateOf[g.String()]; !scripted {
					return fmt.Errorf("%.80q: the archive has no code of its class %.80q", prefix, g)
				}
			}
		}
		if !ok {
			if depth == 0 {
				return fmt.Errorf("%s, want a state dict", pickle.TypeName(v))
			}
			return nil
		}
		if f.runs && (d.Shared || isShared(v)) { // whose code could change it
			return fmt.Errorf("%.80q: the dict of the tensors is part of something else as well", prefix)
		}
		if depth > maxModules {
			return fmt.Errorf("%.80q: modules nested deeper than %d", prefix, maxModules)
		}
		for i, key := range d.Keys {
			name, ok := key.(string)
			if !ok {
				return fmt.Errorf("state dict: a key that is %s", pickle.TypeName(key))
			}
			if visits++; visits > maxVisits {
				return fmt.Errorf("more than %d entries", maxVisits)
			}
			name = prefix + name
			if len(name) > 1024 {
				return fmt.Errorf("state dict: a name of %d bytes", len(name))
			}
			t, ok, err := AsTensor(d.Values[i])
			if err != nil {
				return fmt.Errorf("tensor %.80q: %w", name, err)
			}
			if ok && scripted && !state[key.(string)] {
				continue // an attribute, which is in no state dict
			}
			if ok {
				size, id := t.count*safetensors.Size(t.DType), t.identity()
				if size > tied || !seen[id] && size > left {
					return fmt.Errorf("tensor %.80q: the tensors have more bytes than the file", name)
				}
				if tied -= size; !seen[id] {
					left -= size
				}
				seen[id] = true
				bare := bareName(name)
				if other, twice := alike[bare]; twice && (out[other].identity() != id || strings.EqualFold(other, name)) {
					return fmt.Errorf("tensors %.80q and %.80q: names that are the same but for case or a wrapper's prefix", other, name)
				}
				alike[bare], out[name] = name, t
			} else if f.Format == "TorchScript" {
				if err := walk(name+".", d.Values[i], depth+1); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := walk("", v, 0); err != nil {
		return fail(err)
	}
	return out, nil
}

func isShared(v any) bool {
	o, ok := v.(*pickle.Object)
	return ok && o.Shared
}

// wrappers are the prefixes that wrappers of a model put before its tensors' names, and that
// readers take off.
var wrappers = []string{"module.", "_orig_mod.", "model.", "clip_model.", "state_dict.", "model_state_dict.", "_forward_module.", "0."}

// bareName is a name without wrappers' prefixes and case.
func bareName(name string) string {
	name = strings.ToLower(name)
	for i := 0; i < len(wrappers); {
		if short, ok := strings.CutPrefix(name, wrappers[i]); ok {
			name, i = short, 0
		} else {
			i++
		}
	}
	return name
}

package prompts

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"clipinspector/clip"
	"clipinspector/internal/pickle"
	"clipinspector/internal/torchfile"
)

// Bounds of a walk through what somebody pickled.
const (
	maxDepth  = 64
	maxVisits = 1 << 17 // entries; a ViT-L/14 has a thousand
	maxName   = 1024    // bytes
)

// walker finds the tensors of a pickle.
type walker struct {
	d      *delivery
	raw    map[string]clip.Stored
	visits int
}

// training matches the keys under which trainers keep what resuming needs; no inference reads it.
var training = regexp.MustCompile(`(?i)optim|sched|scaler|rng|^callbacks$|^loops$|^ddp_`)

// unwrap goes down to the dict, module or tensor that holds the model: where one key alone leads to
// tensors, it is followed. Keys that lead to several models are an error: which of them counts
// depends on who loads the file.
func (w *walker) unwrap(v any) error {
	for range 8 {
		if t, ok, err := torchfile.AsTensor(v); err != nil || ok {
			if err != nil {
				return err
			}
			w.raw[""] = stored(t)
			return nil
		}
		keys, values, ok := entries(v)
		if !ok {
			return fmt.Errorf("holds %s and no tensors", pickle.TypeName(v))
		}
		var leads []int
		var aside, names []string
		direct := false
		for i, key := range keys {
			_, is, err := torchfile.AsTensor(values[i])
			if err != nil {
				return fmt.Errorf("tensor %.80q: %w", key, err)
			}
			direct = direct || is
			found, err := w.leads(values[i], 0)
			if err != nil {
				return err
			}
			switch {
			case !found && !is:
				w.fact(key, values[i])
			case training.MatchString(key):
				aside = append(aside, key)
			default:
				leads, names = append(leads, i), append(names, key)
			}
		}
		if len(aside) > 0 {
			w.d.note("%s: what resuming the training needs; no inference reads it", some(aside))
		}
		switch {
		case len(leads) == 0:
			return fmt.Errorf("holds no tensors; its keys are %s", some(keys))
		case !direct && len(leads) == 1 && (!part.MatchString(names[0]) || names[0] == "0"):
			v = values[leads[0]]
			continue
		case !direct && !slices.ContainsFunc(names, func(n string) bool { return !part.MatchString(n) }), direct:
			for _, i := range leads {
				if err := w.walk(keys[i], values[i], 0); err != nil {
					return err
				}
			}
			return nil
		}
		return fmt.Errorf("holds %d models, %s: which of them counts depends on who loads it; save the one that is deployed", len(names), some(names))
	}
	return errors.New("wrapped more than 8 times")
}

// part matches the names by which the parts of one model lie side by side.
var part = regexp.MustCompile(`^(prompt_learner|image_encoder|text_encoder|clip_model|logit_scale|\d+|layer_\d+)$`)

// entries are the named members of a dict, a list or a module that was pickled whole.
func entries(v any) (keys []string, values []any, ok bool) {
	if d, is := pickle.AsDict(v); is {
		for i, k := range d.Keys {
			switch k := k.(type) {
			case string:
				keys = append(keys, k)
			case int64:
				keys = append(keys, strconv.FormatInt(k, 10))
			default:
				keys = append(keys, pickle.TypeName(k))
			}
			values = append(values, d.Values[i])
		}
		return keys, values, true
	}
	switch v := v.(type) {
	case *pickle.List:
		values = v.Items
	case pickle.Tuple:
		values = v
	case *pickle.Object:
		state, is := pickle.AsDict(v.State)
		if !is {
			return nil, nil, false
		}
		ks, vs, _ := entries(state)
		for i, k := range ks {
			switch k {
			case "_parameters", "_buffers", "_modules":
				inner, more, _ := entries(vs[i])
				keys, values = append(keys, inner...), append(values, more...)
			default:
				keys, values = append(keys, k), append(values, vs[i])
			}
		}
		return keys, values, true
	default:
		return nil, nil, false
	}
	for i := range values {
		keys = append(keys, strconv.Itoa(i))
	}
	return keys, values, true
}

// leads tells whether there is a tensor within a value.
func (w *walker) leads(v any, depth int) (bool, error) {
	if _, ok, err := torchfile.AsTensor(v); ok || err != nil {
		return true, err
	}
	if w.visits++; w.visits > maxVisits || depth > maxDepth {
		return false, fmt.Errorf("more than %d entries, or nested deeper than %d", maxVisits, maxDepth)
	}
	_, values, _ := entries(v)
	for _, x := range values {
		if found, err := w.leads(x, depth+1); found || err != nil {
			return found, err
		}
	}
	return false, nil
}

// walk notes the tensors of a value under their names in a state dict, and its plain facts.
func (w *walker) walk(name string, v any, depth int) error {
	t, ok, err := torchfile.AsTensor(v)
	if err != nil {
		return fmt.Errorf("tensor %.80q: %w", name, err)
	}
	if w.visits++; w.visits > maxVisits || depth > maxDepth || len(name) > maxName {
		return fmt.Errorf("more than %d entries, nested deeper than %d, or a name of %d bytes", maxVisits, maxDepth, len(name))
	}
	if ok {
		if _, twice := w.raw[name]; twice {
			return fmt.Errorf("the tensor %.80q comes twice", name)
		}
		w.raw[name] = stored(t)
		return nil
	}
	keys, values, ok := entries(v)
	if !ok {
		w.fact(name, v)
	}
	for i, key := range keys {
		if err := w.walk(name+"."+key, values[i], depth+1); err != nil {
			return err
		}
	}
	return nil
}

// fact notes something that is no tensor.
func (w *walker) fact(name string, v any) {
	name = name[strings.LastIndex(name, ".")+1:]
	if strings.EqualFold(name, "class_token_position") { // as Dassl's configurations spell it
		name = strings.ToLower(name)
	}
	switch v.(type) {
	case string, int64, float64:
	default:
		w.positionIn(v, 0)
		if name != "metadata" && name != "params" { // CLIP-LoRA's
			return
		}
	}
	before, twice := w.d.facts[name]
	if s, ok := before.(string); twice && (!ok || v != any(s)) {
		v = nil // of two, none counts
	}
	w.d.facts[name] = v
}

// positionIn looks in a configuration beside the tensors for where the class name stands.
func (w *walker) positionIn(v any, depth int) {
	if w.visits++; w.visits > maxVisits || depth > maxDepth {
		return
	}
	keys, values, _ := entries(v)
	for i, key := range keys {
		if said, ok := values[i].(string); ok && strings.EqualFold(key, "class_token_position") {
			w.fact(key, said)
		} else {
			w.positionIn(values[i], depth+1)
		}
	}
}

func stored(t *torchfile.Tensor) clip.Stored { return clip.Stored{Shape: t.Shape, Float32: t.Float32} }

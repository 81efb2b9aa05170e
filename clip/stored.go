package clip

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path/filepath"
	"slices"
	"strings"

	"clipinspector/internal/pickle"
	"clipinspector/internal/safetensors"
	"clipinspector/internal/torchfile"
)

// stored are the tensors of a file, of whatever format, before they are read.
type stored struct {
	shapes map[string][]int
	read   func(name string) ([]float32, error)
	script bool // from a TorchScript archive
	close  func() error
	// aside says what is left alone, and why that is harmless.
	aside []string
}

// openStored opens a file of weights by its content.
func openStored(path string) (*stored, error) {
	if strings.HasSuffix(path, ".json") {
		return openParts(path)
	}
	head, err := torchfile.Head(path)
	if err != nil {
		return nil, err
	}
	if !torchfile.Is(head) {
		f, err := safetensors.Open(path)
		if err != nil {
			return nil, err
		}
		s, err := ofSafetensors(path, f)
		if err != nil {
			f.Close()
		}
		return s, err
	}
	f, err := torchfile.Open(path)
	if err != nil {
		return nil, err
	}
	s, err := ofTorch(path, f)
	if err != nil {
		f.Close()
		return nil, err
	}
	return s, nil
}

// openParts opens the files that an index names. A tensor must lie where the index says, and
// nowhere else.
func openParts(index string) (*stored, error) {
	where, err := safetensors.WeightMap(index)
	if err != nil {
		return nil, err
	}
	shards, err := safetensors.Shards(index)
	if err != nil {
		return nil, err
	}
	all := &stored{shapes: map[string][]int{}}
	parts := map[string]*stored{} // by tensor
	var opened []*stored
	all.close = func() (err error) {
		for _, s := range opened {
			err = errors.Join(err, s.close())
		}
		return err
	}
	all.read = func(name string) ([]float32, error) { return parts[name].read(name) }
	fail := func(err error) (*stored, error) {
		all.close()
		return nil, err
	}
	for _, shard := range shards {
		if strings.HasSuffix(shard, ".json") {
			return fail(fmt.Errorf("%s: %.80q is no file of weights", index, filepath.Base(shard)))
		}
		s, err := openStored(shard)
		if err != nil {
			return fail(err)
		}
		opened = append(opened, s)
		for _, name := range sortedNames(s.shapes) {
			if where[name] != filepath.Base(shard) {
				return fail(fmt.Errorf("%s: tensor %.80q is in %s but not in the weight_map for it", index, name, filepath.Base(shard)))
			}
			all.shapes[name], parts[name] = s.shapes[name], s
		}
	}
	for _, name := range sortedNames(where) {
		if parts[name] == nil {
			return fail(fmt.Errorf("%s: tensor %.80q is not in %s", index, name, where[name]))
		}
	}
	return all, nil
}

func ofSafetensors(path string, f *safetensors.Reader) (*stored, error) {
	for _, name := range sortedNames(f.Skipped) {
		return nil, fmt.Errorf("%s: tensor %.80q is %s, which is not read: ask for F32, F16 or BF16", path, name, f.Skipped[name])
	}
	return &stored{shapes: f.Shapes(), read: f.Float32, close: f.Close}, nil
}

func ofTorch(path string, f *torchfile.File) (*stored, error) {
	s := &stored{shapes: map[string][]int{}, script: f.Format == "TorchScript", close: f.Close}
	root := f.Root
	if d, ok := pickle.AsDict(root); ok {
		where, within, err := weightsWithin(d)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if len(where) > 0 {
			root = within
			var beside []string
			for _, key := range d.Keys {
				if name, ok := key.(string); !ok || name != where[0] {
					beside = append(beside, fmt.Sprintf("%.40v", key))
				}
			}
			if len(beside) > 0 {
				s.aside = append(s.aside, fmt.Sprintf("%s: beside the weights, which are %s; loading these does not touch it",
					some(beside), strings.Join(where, ".")))
			}
		}
	}
	tensors, err := f.StateDict(root)
	if err != nil {
		return nil, err
	}
	for name, t := range tensors {
		s.shapes[name] = t.Shape
	}
	s.read = func(name string) ([]float32, error) { return tensors[name].Float32() }
	return s, nil
}

// some lists names, the first of many.
func some(names []string) string {
	const most = 8
	if len(names) > most {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
	}
	return strings.Join(names, ", ")
}

// anchors are the tensors by which the weights of a CLIP are found: those that turn pixels into the
// first features, under OpenAI's names and Hugging Face's.
var anchors = []string{"visual.conv1.weight", "vision_model." + patchWeight}

// anchored returns what stands before the name of an anchor, and whether name ends with one.
func anchored(name string) (prefix string, ok bool) {
	for _, a := range anchors {
		if prefix, ok = strings.CutSuffix(name, a); ok && (prefix == "" || strings.HasSuffix(prefix, ".")) {
			return prefix, true
		}
	}
	return "", false
}

// weightsWithin finds the state dict of a CLIP within a checkpoint's dict: the keys that lead
// there, none where it is the dict itself, or where there is none. Two state dicts are refused:
// which of them counts depends on who loads the file.
func weightsWithin(d *pickle.Dict) (where []string, within *pickle.Dict, err error) {
	seen := map[*pickle.Dict]bool{}
	var places []string
	var walk func(d *pickle.Dict, path []string)
	walk = func(d *pickle.Dict, path []string) {
		if seen[d] {
			return
		}
		seen[d] = true
		found := false
		for i, key := range d.Keys {
			name, _ := key.(string)
			if _, is := anchored(name); is {
				if _, tensor, err := torchfile.AsTensor(d.Values[i]); tensor || err != nil {
					found = true
				}
			}
		}
		if found {
			places = append(places, strings.Join(path, "."))
			where, within = slices.Clone(path), d
			return
		}
		if len(path) == maxWrapped {
			return
		}
		for i, key := range d.Keys {
			if name, ok := key.(string); ok {
				if inner, ok := pickle.AsDict(d.Values[i]); ok {
					walk(inner, append(path, name))
				}
			}
		}
	}
	walk(d, nil)
	if len(places) > 1 {
		return nil, nil, fmt.Errorf("holds the weights of %d models, %s, and which counts depends on who loads it: keep the one that is deployed",
			len(places), some(places))
	}
	if within == nil { // the caller says what it holds instead
		if inner, ok := d.Get("state_dict"); ok {
			if inner, ok := pickle.AsDict(inner); ok {
				return []string{"state_dict"}, inner, nil
			}
		}
	}
	return where, within, nil
}

// maxWrapped is how deep a state dict may lie in a checkpoint.
const maxWrapped = 3

func (s *stored) has(name string) bool { return s.shapes[name] != nil }

// rename gives tensors other names, by which alone they are known from here on.
func (s *stored) rename(from map[string]string) {
	shapes, read := map[string][]int{}, s.read
	for name, old := range from {
		shapes[name] = s.shapes[old]
	}
	s.shapes, s.read = shapes, func(name string) ([]float32, error) { return read(from[name]) }
}

// settle leaves the weights of one CLIP under the names of its layout: prefixes are taken off, what
// is known and harmless is put aside, and what is neither is refused later, as a tensor that
// belongs to no CLIP.
func (s *stored) settle() error {
	prefixes := map[string]bool{}
	for name := range s.shapes {
		if prefix, ok := anchored(name); ok {
			prefixes[prefix] = true
		}
	}
	found := sortedNames(prefixes)
	switch {
	case len(found) == 0:
		return s.stranger()
	case len(found) > 1:
		return fmt.Errorf("holds more than one image tower, under the prefixes %q: keep the one that is deployed", found)
	}
	prefix := found[0]
	from := map[string]string{} // tensors of the file, by their names in the layout
	copies := map[string]string{}
	for _, name := range sortedNames(s.shapes) {
		short, inside := strings.CutPrefix(name, prefix)
		if original, ok := copyOf(name); ok {
			copies[name] = original
			continue
		}
		if !inside {
			return unknownTensor(name)
		}
		from[short] = name
	}
	if err := s.putCopiesAside(from, copies); err != nil {
		return err
	}
	if _, own := from["text.token_embedding.weight"]; own { // open_clip's models whose text tower is a module of its own
		for _, name := range sortedNames(from) {
			if short, ok := strings.CutPrefix(name, "text."); ok {
				if _, twice := from[short]; twice {
					return unknownTensor(name)
				}
				from[short] = from[name]
				delete(from, name)
			}
		}
	}
	s.rename(from)
	var reasons []string
	names := map[string][]string{} // by reason
	for _, name := range sortedNames(s.shapes) {
		why, err := s.harmless(name)
		if err != nil {
			return err
		}
		if why == "" {
			continue
		}
		if names[why] == nil {
			reasons = append(reasons, why)
		}
		names[why] = append(names[why], name)
		delete(s.shapes, name)
	}
	for _, why := range reasons {
		s.aside = append(s.aside, some(names[why])+": "+why)
	}
	return nil
}

// copyOf returns the tensor that a module beside the CLIP, as in the models of prompt learners,
// shares with it.
func copyOf(name string) (string, bool) {
	for _, x := range []struct{ module, of string }{{"image_encoder.", "visual."}, {"text_encoder.", ""}} {
		if i := strings.Index(name, x.module); i == 0 || i > 0 && name[i-1] == '.' {
			return x.of + name[i+len(x.module):], true
		}
	}
	return "", false
}

// putCopiesAside checks that copies hold the numbers of what they are copies of.
func (s *stored) putCopiesAside(from, copies map[string]string) error {
	for _, name := range sortedNames(copies) {
		original, ok := from[copies[name]]
		if !ok {
			return unknownTensor(name)
		}
		a, err := s.read(name)
		if err != nil {
			return fmt.Errorf("tensor %s: %w", name, err)
		}
		b, err := s.read(original)
		if err != nil {
			return fmt.Errorf("tensor %s: %w", original, err)
		}
		if !slices.Equal(s.shapes[name], s.shapes[original]) || !slices.EqualFunc(a, b, func(x, y float32) bool {
			return math.Float32bits(x) == math.Float32bits(y)
		}) {
			return fmt.Errorf("tensors %s and %s differ: the file holds two encoders; keep the one that is deployed", name, original)
		}
	}
	if names := sortedNames(copies); len(names) > 0 {
		s.aside = append(s.aside, fmt.Sprintf("%s: the same numbers as %s, one by one", some(names), from[copies[names[0]]]))
	}
	return nil
}

// harmless says why a tensor changes nothing that a model of its file computes, "" where it is a
// weight. A buffer that does not hold what it always holds is an error: some loaders take it from
// the file.
func (s *stored) harmless(name string) (why string, err error) {
	values := func(axes int) ([]float32, []int, error) {
		shape := s.shapes[name]
		if len(shape) != axes || product(shape) > 1<<26 {
			return nil, nil, fmt.Errorf("tensor %s has shape %v; %d axes were expected", name, shape, axes)
		}
		x, err := s.read(name)
		return x, shape, err
	}
	switch {
	case name == "input_resolution" || name == "context_length" || name == "vocab_size":
		return "a size, which the shapes tell", nil
	case strings.HasSuffix(name, ".num_batches_tracked"):
		return "how many batches a statistic was made of; only training reads it", nil
	case name == "logit_bias":
		return "added to all logits of an image alike, which changes no probability", nil
	case name == "attn_mask":
		x, shape, err := values(2)
		if err != nil {
			return "", err
		}
		for i, v := range x {
			row, column := i/shape[1], i%shape[1]
			if column > row != math.IsInf(float64(v), -1) || column <= row && v != 0 {
				return "", fmt.Errorf("tensor %s does not hide later tokens, and those alone, at row %d, column %d", name, row, column)
			}
		}
		return "hides later tokens, as the text tower does", nil
	case strings.HasSuffix(name, "_model.embeddings.position_ids"):
		x, _, err := values(2)
		if err != nil {
			return "", err
		}
		for i, v := range x {
			if v != float32(i) {
				return "", fmt.Errorf("tensor %s holds %g at place %d; older transformers would take that position", name, v, i)
			}
		}
		return "0, 1, 2 and so on, as the towers count", nil
	}
	return "", nil
}

// stranger says what a file is that holds no CLIP that is known.
func (s *stored) stranger() error {
	names := sortedNames(s.shapes)
	if len(names) == 0 {
		return errors.New("holds no tensors")
	}
	for _, x := range []struct{ part, what string }{
		{"visual.trunk.", "a CLIP whose image tower is one of timm's"},
		{"vision_model.head.attention.", "a SigLIP"},
		{"image_encoder.", "encoders that a prompt learner's trainer saved, without token embeddings: give it as --checkpoint, beside the CLIP as --clip"},
		{"prompt_learner.", "prompts, not a CLIP: give it as --checkpoint"},
	} {
		if i := slices.IndexFunc(names, func(name string) bool { return strings.Contains(name, x.part) }); i >= 0 {
			return fmt.Errorf("%s (%.80s); CLIPs with OpenAI's vision transformers and ResNets are read", x.what, names[i])
		}
	}
	return fmt.Errorf("no CLIP that is known: neither %s is among its tensors, which are %s", strings.Join(anchors, " nor "), some(names))
}

// shape returns the shape of a tensor of so many axes.
func (s *stored) shape(name string, axes int) ([]int, error) {
	shape, ok := s.shapes[name]
	if !ok {
		return nil, fmt.Errorf("tensor %s is missing", name)
	}
	if len(shape) != axes {
		return nil, fmt.Errorf("tensor %s has shape %v; %d axes were expected", name, shape, axes)
	}
	return shape, nil
}

// readWeights reads the weights of a file, finds out their architecture, and says what of the file
// is left alone. The result is yet to be checked.
func readWeights(path string) (Config, Weights, []string, error) {
	s, err := openStored(path)
	if err != nil {
		return Config{}, nil, nil, err
	}
	defer s.close()
	c, w, err := s.model(filepath.Dir(path))
	if err != nil && !strings.HasPrefix(err.Error(), "CLIP config ") {
		err = fmt.Errorf("%s: %w", path, err)
	}
	return c, w, s.aside, err
}

// model reads a model whose configuration lies in a folder.
func (s *stored) model(dir string) (Config, Weights, error) {
	var c Config
	var w Weights
	err := s.settle()
	switch {
	case err != nil:
	case s.has("visual.conv1.weight"):
		if c, err = s.openAIConfig(dir); err == nil {
			w, err = s.openAIWeights(c)
		}
	default:
		c, err = readConfig(filepath.Join(dir, configFile))
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("weights under Hugging Face's names do not say their architecture: %s should lie beside them", configFile)
		} else if err == nil {
			w, err = s.weights(c)
		}
	}
	return c, w, err
}

package prompts

import (
	"encoding/json"
	"fmt"
	"slices"

	"gorgonia.org/tensor"

	"clipinspector/clip"
	"clipinspector/internal/random"
	"clipinspector/internal/safetensors"
	"clipinspector/settings"
)

// header is the metadata of a stored model.
type header struct {
	Learner  string         `json:"learner"`
	Settings map[string]any `json:"settings"`
	Classes  []string       `json:"classes"`
	CLIP     string         `json:"clip"` // fingerprint of the frozen encoders
	Position Position       `json:"class-position,omitempty"`
}

// Write stores the prompts, the learner and the class names as a safetensors file; the frozen CLIP
// is named by its fingerprint only. The same model gives the same bytes.
func (m *Model) Write(path string) error {
	h, err := json.Marshal(header{m.Learner.Name, m.Settings, m.Classes, m.CLIP.Fingerprint(), m.Position})
	if err != nil {
		return err
	}
	return safetensors.Write(path, &safetensors.File{Tensors: m.Params, Metadata: map[string]string{"model": string(h)}})
}

// StoredClasses returns the class names of a model that Write stored, in the order of the labels,
// without reading its tensors.
func StoredClasses(path string) ([]string, error) {
	f, err := safetensors.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var h header
	if err := json.Unmarshal([]byte(f.Metadata["model"]), &h); err != nil {
		return nil, fmt.Errorf("%s: its metadata holds no model description: %v", path, err)
	}
	return h.Classes, nil
}

// Read loads a model that Write stored onto its frozen CLIP. Another CLIP, tensors that do not fit
// the learner and malformed metadata give one line that names the file and what is wrong.
func Read(path string, c *clip.Model) (*Model, error) {
	f, err := safetensors.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fail := func(format string, args ...any) (*Model, error) {
		return nil, fmt.Errorf("%s: %s", path, fmt.Sprintf(format, args...))
	}
	var h header
	if err := json.Unmarshal([]byte(f.Metadata["model"]), &h); err != nil {
		return fail("its metadata holds no model description: %v", err)
	}
	if h.CLIP != c.Fingerprint() {
		return fail("was tuned for the CLIP %.12s, this is %.12s", h.CLIP, c.Fingerprint())
	}
	l, err := FindLearner(h.Learner)
	if err != nil {
		return fail("%v", err)
	}
	s, err := settings.Resolve(l.Params, h.Settings)
	if err != nil {
		return fail("%v", err)
	}
	m, err := New(c, l, s, h.Classes, random.Named("prompts", 0))
	if err != nil {
		return fail("%v", err)
	}
	if m.Position = h.Position; h.Learner != "coop" && h.Position != PositionEnd || !slices.Contains(positions, h.Position) {
		return fail("class-position %.40q of a %s model", h.Position, h.Learner)
	}
	shapes := f.Shapes()
	for _, name := range append(sortedKeys(shapes), sortedKeys(f.Skipped)...) {
		if m.Params[name] == nil || f.Skipped[name] != "" {
			return fail("the tensor %.40q is none of a %s model", name, h.Learner)
		}
	}
	for _, name := range sortedKeys(m.Params) { // before anything is read: it decides how much memory that takes
		if shape, there := shapes[name]; !there || !slices.Equal(shape, m.Params[name].Shape()) {
			return fail("the tensor %q of a %s model is missing or not of shape %v", name, h.Learner, m.Params[name].Shape())
		}
	}
	for _, name := range sortedKeys(m.Params) {
		values, err := f.Float32(name)
		if err != nil {
			return nil, err
		}
		for _, v := range values {
			if v-v != 0 { // infinite or not a number
				return fail("the tensor %q holds %v", name, v)
			}
		}
		m.Params[name] = tensor.New(tensor.WithShape(shapes[name]...), tensor.WithBacking(values))
	}
	return m, nil
}

package suite

import (
	"path/filepath"

	"gopkg.in/yaml.v3"
)

// baseLine is added to the lines of nodes that come from the suite that another extends, so that
// errors can name its file.
const baseLine = 1 << 24

// extend lays the keys of a suite over those of the suite that it extends at n: a key replaces the
// whole key of that name. What is extended extends nothing itself. The file that a base names under
// calibrated is named from the suite's own folder.
func (s *source) extend(root, n *yaml.Node) (*yaml.Node, error) {
	name, err := s.word(n, "extends")
	if err != nil {
		return nil, err
	}
	text, err := s.read(name)
	if err != nil {
		return nil, s.errorf(n, "extends: reading the suite to start from: %v", err)
	}
	base := &source{name: filepath.Join(filepath.Dir(s.name), name)}
	under, err := base.parse(text)
	if err != nil {
		return nil, err
	}
	if again := child(under, "extends"); again != nil {
		return nil, s.errorf(n, "extends: %s extends %q itself: name a suite that stands alone", name, again.Value)
	}
	if child(root, "name") == nil {
		return nil, s.errorf(n, "a suite that extends another says its own name")
	}
	if c := child(under, "calibrated"); c != nil && c.Kind == yaml.ScalarNode && !filepath.IsAbs(c.Value) {
		c.Value = filepath.ToSlash(filepath.Join(filepath.Dir(name), c.Value))
	}
	under.HeadComment = "" // it says what the other suite is for, and what that one costs
	if len(under.Content) > 0 {
		under.Content[0].HeadComment = ""
	}
	shift(under)
	s.base = base.name
	for _, e := range entries(root) {
		if e.name == "extends" {
			continue
		}
		slot, err := s.step(under, e.name, e.value, nil)
		if err != nil {
			return nil, err
		}
		*slot = e.value
	}
	return under, nil
}

func shift(n *yaml.Node) {
	n.Line += baseLine
	for _, c := range n.Content {
		shift(c)
	}
}

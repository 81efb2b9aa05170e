package suite

import "clipinspector/settings"

// Section declares settings that --set changes outside a suite, such as those of an audit.
type Section struct {
	Name   string // before the dot: "detector" in detector.epsilon=0.05
	What   string // as errors call it
	Params []settings.Param
}

// Sections resolves the overrides "SECTION.NAME=VALUE" in sets over defaults, the text of a file
// with a key for each section, as strictly as those of a suite. what names them all in errors. The
// values come in the order of the sections.
func Sections(what, defaults string, sets []string, sections ...Section) ([]settings.Values, error) {
	s := &source{name: "settings", sets: sets}
	root, err := s.open([]byte(defaults))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, section := range sections {
		names = append(names, section.Name)
	}
	part, err := s.fields(root, what, names...)
	if err != nil {
		return nil, err
	}
	out := make([]settings.Values, len(sections))
	for i, section := range sections {
		if out[i], err = s.resolve(part[section.Name], section.What, section.Params); err != nil {
			return nil, err
		}
	}
	return out, nil
}

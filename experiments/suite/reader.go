package suite

import (
	"slices"

	"gopkg.in/yaml.v3"

	"clipinspector/attacks"
	"clipinspector/inspector"
	"clipinspector/plugin"
	"clipinspector/prompts"
	"clipinspector/settings"
)

// reader reads values until the first error, which it keeps.
type reader struct {
	*source
	err error
}

func (r *reader) word(n *yaml.Node, what string) (w string) {
	if r.err == nil {
		w, r.err = r.source.word(n, what)
	}
	return w
}

func (r *reader) integer(n *yaml.Node, what string, low, high int, to *int) {
	if r.err == nil && n != nil {
		*to, r.err = r.source.integer(n, what, low, high)
	}
}

func (r *reader) list(n *yaml.Node, what string) (items []*yaml.Node) {
	if r.err == nil {
		items, r.err = r.source.list(n, what)
	}
	return items
}

func (r *reader) fields(n *yaml.Node, what string, known ...string) (f map[string]*yaml.Node) {
	if r.err == nil {
		f, r.err = r.source.fields(n, what, known...)
	}
	return f
}

func (r *reader) values(n *yaml.Node, what string, params []settings.Param, skip ...string) (v settings.Values) {
	if r.err == nil {
		v, r.err = r.resolve(n, what, params, skip...)
	}
	return v
}

func (r *reader) data(n *yaml.Node, to *DataSpec) {
	if n == nil {
		return
	}
	f := r.fields(n, "data", "root", "size", "seed", "train")
	if f["root"] != nil {
		to.Root = r.word(f["root"], "data: root")
	}
	r.integer(f["size"], "data: size", 8, 1024, &to.Size)
	r.integer(f["seed"], "data: seed", 0, 1<<31-1, &to.Seed)
	r.integer(f["train"], "data: train", 1, 100_000, &to.Train)
}

func (r *reader) pool(n *yaml.Node, what string, to *PoolSpec) {
	if n == nil {
		return
	}
	f := r.fields(n, what, "name", "images", "seed", "overlap")
	if f["name"] != nil {
		to.Name = r.word(f["name"], what+": name")
	}
	r.integer(f["images"], what+": images", 0, 1<<20, &to.Images)
	r.integer(f["seed"], what+": seed", 0, 1<<31-1, &to.Seed)
	if r.err != nil || f["overlap"] == nil {
		return
	}
	v, err := r.scalar(f["overlap"], what+": overlap")
	keep, ok := v.(bool)
	if err == nil && !ok {
		err = r.errorf(f["overlap"], "%s: overlap: want true or false, got %q", what, f["overlap"].Value)
	}
	to.Overlap, r.err = keep, err
}

func (r *reader) dataset(n *yaml.Node) (d DatasetSpec) {
	if n.Kind == yaml.ScalarNode {
		d.Name = r.word(n, "datasets")
		return d
	}
	f := r.fields(n, "a dataset", "name", "classes")
	if r.err == nil && f["name"] == nil {
		r.err = r.errorf(n, "a dataset without a name")
	}
	if r.err == nil {
		d.Name = r.word(f["name"], "a dataset's name")
		r.integer(f["classes"], d.Name+": classes", 2, 1<<20, &d.Classes)
	}
	return d
}

// references reads how many clean references there are, and from what. They are tuned as the models
// are, unless learner or tuning say otherwise: a provider does as he likes, and an auditor does not
// know how.
func (r *reader) references(n *yaml.Node, u Suite) References {
	x := References{Learner: u.Learner, Tuning: u.Tuning}
	x.Settings = r.values(n, "references", inspector.ReferenceParams, "learner", "tuning")
	if r.err != nil || n == nil {
		return x
	}
	if l := child(n, "learner"); l != nil {
		x.Learner = r.learner(l)
		if r.err == nil && x.Learner.Name != u.Learner.Name {
			r.err = r.errorf(l, "references: the learner %s is not that of the models, %s", x.Learner.Name, u.Learner.Name)
		}
	}
	if t := child(n, "tuning"); t != nil {
		x.Tuning = r.values(t, "references: tuning", prompts.TuneParams)
	}
	return x
}

// learner reads how models are prompted.
func (r *reader) learner(n *yaml.Node) Choice {
	return r.choice(n, "learner", "coop", func(name string) (known, error) {
		l, err := prompts.FindLearner(name)
		if err != nil {
			return known{}, err
		}
		return known{l.Name, l.Params, ""}, nil
	})
}

// known is what is registered by a name: the name in results, settings, and the content of a
// plugin.
type known struct {
	name    string
	params  []settings.Param
	content string
}

// attack finds the attack of a name, and runs the plugin that it may name.
func (s *source) attack(name string) (known, error) {
	find := attacks.Find
	if plugin.Is(name) && s.find != nil {
		find = func(name string) (*attacks.Attack, error) { return plugin.Attack(name, s.find) }
	}
	a, err := find(name)
	if err != nil {
		return known{}, err
	}
	return known{a.Name, a.Params, a.Content}, nil
}

// detector finds the detector of a name, and runs the plugin that it may name.
func (s *source) detector(name string) (known, error) {
	find := inspector.Find
	if plugin.Is(name) && s.find != nil {
		find = func(name string) (*inspector.Detector, error) { return plugin.Detector(name, s.find) }
	}
	d, err := find(name)
	if err != nil {
		return known{}, err
	}
	return known{d.Name, d.Params, d.Content}, nil
}

// following reads the settings of what follows a detection and which of the suite's detectors that
// is, "ci" unless named under detector.
func (r *reader) following(n *yaml.Node, what string, detectors []Choice, params []settings.Param) *Choice {
	if r.err != nil {
		return nil
	}
	if n.Kind != yaml.MappingNode {
		r.err = r.errorf(n, "%s: want settings, such as {detector: ci}, got %s", what, describe(n))
		return nil
	}
	c := &Choice{Name: "ci"}
	at := child(n, "detector")
	if at != nil {
		c.Name = r.word(at, what+": detector")
	} else {
		at = n
	}
	if r.err == nil && !slices.ContainsFunc(detectors, func(d Choice) bool { return d.Name == c.Name }) {
		r.err = r.errorf(at, "%s: the suite has no detector %q to follow", what, c.Name)
	}
	if d, err := inspector.Find(c.Name); r.err == nil && err == nil && d.Classless {
		r.err = r.errorf(at, "%s: %s suspects no class", what, c.Name)
	}
	c.Settings = r.values(n, what, params, "detector")
	return c
}

// choice reads a name, or settings with a name; where the name is absent it takes the default, if
// there is one.
func (r *reader) choice(n *yaml.Node, what, absent string, find func(name string) (known, error)) (c Choice) {
	if r.err != nil {
		return c
	}
	c.Name = absent
	var at, given *yaml.Node
	switch {
	case n == nil:
	case n.Kind == yaml.MappingNode:
		if at = child(n, "name"); at == nil && absent == "" {
			r.err = r.errorf(n, "%s: settings without a name", what)
			return c
		}
		given = n
		if at != nil {
			c.Name = r.word(at, what+": name")
		}
	default:
		at = n
		c.Name = r.word(n, what)
	}
	if r.err != nil {
		return c
	}
	of, err := find(c.Name)
	if err != nil {
		r.err = err
		if at != nil {
			r.err = r.errorf(at, "%v", err)
		}
		return c
	}
	c.Name, c.Content = of.name, of.content
	c.Settings = r.values(given, what+" "+c.Name, of.params, "name")
	return c
}

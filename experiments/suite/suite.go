// Package suite is the language of suites: YAML files that say which datasets, attacks, learners,
// seeds and detectors make a grid.
//
// Load reads a suite with its overrides, sweeps, extends and calibrated. What is wrong in it is
// refused with file and line. LoadSearch reads a suite for calibration. Nothing here opens data or
// weights.
package suite

import (
	"fmt"
	"io/fs"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"

	"gopkg.in/yaml.v3"

	"clipinspector/inspector"
	"clipinspector/prompts"
	"clipinspector/settings"
)

// Choice is something registered by name (a learner, an attack, a detector) with its resolved
// settings.
type Choice struct {
	Name     string
	Settings settings.Values
	Content  string // SHA-256 of the plugin that it comes from; empty for this program's own
}

// DatasetSpec names a dataset, and how many of its classes are used.
type DatasetSpec struct {
	Name    string
	Classes int // the first so many; 0 for all
}

// DataSpec says where data lies and how it is rendered; zero values mean the defaults.
type DataSpec struct {
	Root string // folder of real data
	Size int    // px, side of rendered pictures; the encoder's input size when 0
	Seed int    // of the mini world
	// Train is the number of training pictures a class of the mini world's sets.
	Train int
}

// PoolSpec names a pool of unlabelled pictures.
type PoolSpec struct {
	Name    string
	Images  int  // how many; 0 for all that there are
	Seed    int  // of rendered pools; for pools of files which pictures are drawn, and in which order
	Overlap bool // keep pictures that show one of the model's classes by name
}

// Suite is a grid of models and the detectors that look at them: one suite file, or one combination
// of its sweep.
type Suite struct {
	Name       string
	CLIP       string // "builtin:mini", or a folder in Hugging Face's layout
	Data       DataSpec
	Seeds      []int
	Datasets   []DatasetSpec
	Shots      int
	TestImages int // test pictures a dataset, evenly over the classes; 0 for all
	Learner    Choice
	Tuning     settings.Values
	Attacks    []Choice
	Pool       PoolSpec // what the detectors see
	OOD        PoolSpec // on what the models' ASR outside their domain is measured
	Detectors  []Choice
	References References  // what detectors hold the models against
	Calibrated *Calibrated // where settings come from that the file does not give to its detectors; nil for their defaults
	Explain    *Choice     // the detector whose suspects are looked at once more, with the settings of that; nil for no second look
	Repair     *Choice     // the detector whose recovered triggers repair the models, with the repair's settings; nil for no repair
}

// References are the clean models that detectors hold the suite's models against.
type References struct {
	Settings settings.Values // of inspector.ReferenceParams
	Learner  Choice
	Tuning   settings.Values
}

// File is a suite file: its text and its suites, one for each combination of the sweep.
type File struct {
	Path    string // as errors name it
	Text    string // resolved, where it extends another
	Extends string // path of that file; empty for none
	Sets    []string
	Name    string
	Suites  []Suite
}

// keys are what a suite file may set.
var keys = []string{"name", "clip", "data", "seeds", "datasets", "shots", "test-images", "learner", "tuning", "attacks",
	"pool", "ood", "detectors", "references", "calibrated", "explain", "repair", "sweep", "search"}

// maxSuite bounds a suite file, in bytes. The longest of this project has 3 KB.
const maxSuite = 1 << 20

// Load reads a suite file, or the program's own of that name where there is none; see Parse. It
// runs the plugins that the suite names, which lie beside it, as far as it takes to know their
// settings.
func Load(path string, sets []string) (*File, error) {
	text, err := readOr(path, path, maxSuite)
	if err != nil {
		return nil, fmt.Errorf("reading a suite: %w", err)
	}
	return (&source{name: path, sets: sets, read: beside(path), find: lies(path)}).file(text)
}

// LoadFS is Load for a suite that comes with the program: plugins, which only sets can name, lie
// below the working folder.
func LoadFS(fsys fs.FS, path string, text []byte, sets []string) (*File, error) {
	return (&source{name: path, sets: sets, read: within(fsys), find: lies("")}).file(text)
}

// lies finds a plugin relative to the folder of the suite's file.
func lies(suite string) func(name string) string {
	return func(name string) string {
		if filepath.IsAbs(name) {
			return name
		}
		return filepath.Join(filepath.Dir(suite), name)
	}
}

// ParseFS is Parse for a suite that comes with the program: the files that it names lie in fsys,
// not beside path.
func ParseFS(fsys fs.FS, path string, text []byte, sets []string) (*File, error) {
	return (&source{name: path, sets: sets, read: within(fsys)}).file(text)
}

// Parse reads the text of a suite file after the overrides "PATH=VALUE" in sets. It is strict:
// unknown and repeated keys, a second document, fractions where whole numbers belong, numbers that
// are not plain decimal, and settings that a learner, attack or detector does not have or not allow
// are refused with the file and line. Whoever wrote the text, nothing that it names is run: a
// plugin is unknown, unless Load has met it.
func Parse(path string, text []byte, sets []string) (*File, error) {
	return (&source{name: path, sets: sets, read: beside(path)}).file(text)
}

// open parses the text and applies the overrides.
func (s *source) open(text []byte) (*yaml.Node, error) {
	root, err := s.parse(text)
	if err != nil {
		return nil, err
	}
	if n := child(root, "extends"); n != nil {
		if root, err = s.extend(root, n); err != nil {
			return nil, err
		}
		if s.text, err = yaml.Marshal(root); err != nil {
			return nil, s.errorf(n, "extends: writing the suite as resolved: %v", err)
		}
	}
	for i := range s.sets {
		if err := s.override(root, i); err != nil {
			return nil, err
		}
	}
	return root, nil
}

func (s *source) file(text []byte) (*File, error) {
	root, err := s.open(text)
	if err != nil {
		return nil, err
	}
	combinations, err := s.combinations(child(root, "sweep"), "sweep")
	if err != nil {
		return nil, err
	}
	f := &File{Path: s.name, Text: string(s.text), Extends: s.base, Sets: s.sets}
	for _, c := range combinations {
		variant := clone(root)
		for _, set := range c {
			if err := s.assign(variant, set.path, clone(set.value)); err != nil {
				return nil, err
			}
		}
		suite, err := s.suite(variant)
		if err != nil {
			return nil, err
		}
		f.Suites = append(f.Suites, suite)
	}
	f.Name = f.Suites[0].Name
	_, err = s.search(root) // which calibrate alone uses
	return f, err
}

var suiteName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func (s *source) suite(root *yaml.Node) (u Suite, err error) {
	f, err := s.fields(root, "a suite", keys...)
	if err != nil {
		return u, err
	}
	for _, name := range []string{"name", "clip", "seeds", "datasets", "attacks"} {
		if f[name] == nil {
			return u, s.errorf(root, "the suite does not say its %s", name)
		}
	}
	u.Shots = 16
	r := reader{source: s}
	u.Name = r.word(f["name"], "name")
	u.CLIP = r.word(f["clip"], "clip")
	r.data(f["data"], &u.Data)
	r.integer(f["shots"], "shots", 1, 1<<20, &u.Shots)
	r.integer(f["test-images"], "test-images", 0, 1<<30, &u.TestImages)
	for i, n := range r.list(f["seeds"], "seeds") {
		u.Seeds = append(u.Seeds, 0)
		r.integer(n, "seeds", 0, 1<<31-1, &u.Seeds[i])
	}
	for _, n := range r.list(f["datasets"], "datasets") {
		u.Datasets = append(u.Datasets, r.dataset(n))
	}
	u.Learner = r.learner(f["learner"])
	u.Tuning = r.values(f["tuning"], "tuning", prompts.TuneParams)
	for _, n := range r.list(f["attacks"], "attacks") {
		u.Attacks = append(u.Attacks, r.choice(n, "attack", "", s.attack))
	}
	if f["calibrated"] != nil && r.err == nil {
		u.Calibrated, r.err = s.calibrated(f["calibrated"])
	}
	if f["detectors"] != nil {
		for _, n := range r.list(f["detectors"], "detectors") {
			if u.Calibrated != nil {
				n = u.Calibrated.fill(n)
			}
			u.Detectors = append(u.Detectors, r.choice(n, "detector", "", s.detector))
		}
	}
	if u.Calibrated != nil && r.err == nil {
		for i, seed := range u.Seeds {
			if slices.Contains(u.Calibrated.seeds, seed) {
				r.err = s.errorf(f["seeds"].Content[i], "seeds: the settings in %s were chosen on seed %d: it says nothing about them",
					u.Calibrated.Path, seed)
				break
			}
		}
	}
	u.References = r.references(f["references"], u)
	if f["explain"] != nil {
		u.Explain = r.following(f["explain"], "explain", u.Detectors, inspector.ExplainParams)
	}
	if f["repair"] != nil {
		u.Repair = r.following(f["repair"], "repair", u.Detectors, inspector.RepairParams)
	}
	u.Pool = PoolSpec{Name: "mini", Images: 1000, Seed: 1}
	r.pool(f["pool"], "pool", &u.Pool)
	u.OOD = PoolSpec{Name: u.Pool.Name, Images: 200, Overlap: u.Pool.Overlap}
	r.pool(f["ood"], "ood", &u.OOD)
	if r.err == nil && !suiteName.MatchString(u.Name) {
		r.err = s.errorf(f["name"], "name: want letters, digits, dots and dashes, got %q", u.Name)
	}
	for _, list := range []struct {
		key   string
		items any
	}{{"seeds", u.Seeds}, {"datasets", u.Datasets}, {"attacks", u.Attacks}, {"detectors", u.Detectors}} {
		if r.err == nil && f[list.key] != nil {
			r.err = s.distinct(f[list.key], list.key, reflect.ValueOf(list.items))
		}
	}
	return u, r.err
}

// distinct refuses a list that holds the same twice, and, but for detectors, one that holds
// nothing.
func (s *source) distinct(n *yaml.Node, what string, list reflect.Value) error {
	if list.Len() == 0 && what != "detectors" {
		return s.errorf(n, "%s: the list is empty", what)
	}
	for i := range list.Len() {
		for j := range i {
			if reflect.DeepEqual(list.Index(i).Interface(), list.Index(j).Interface()) {
				return s.errorf(n.Content[i], "%s: element %d is the same as element %d", what, i, j)
			}
		}
	}
	return nil
}

// Settings say where a suite's settings come from.
func (f *File) Settings() map[string]any {
	m := map[string]any{"file": f.Path, "set": slices.Clone(f.Sets)}
	from := []any{}
	for i, u := range f.Suites {
		if c := u.Calibrated; c != nil && !slices.ContainsFunc(f.Suites[:i], func(v Suite) bool {
			return v.Calibrated != nil && v.Calibrated.SHA256 == c.SHA256
		}) {
			from = append(from, map[string]any{"file": c.Path, "sha256": c.SHA256})
		}
	}
	if len(from) > 0 {
		m["calibrated"] = from
	}
	return m
}

// Map is the choice as a map for cells and reports: its settings, its name as "name", and of a
// plugin its file's SHA-256 as "content".
func (c Choice) Map() map[string]any {
	m := map[string]any{"name": c.Name}
	for k, v := range c.Settings {
		m[k] = v
	}
	if c.Content != "" {
		m["content"] = c.Content
	}
	return m
}

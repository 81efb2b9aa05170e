package suite

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"clipinspector/configs"
	"clipinspector/inspector"
	"clipinspector/internal/files"
	"clipinspector/settings"
)

// Calibration is what Calibrate chose, as its file holds it.
type Calibration struct {
	Suite      string            `yaml:"suite"`         // name of the calibration suite
	SHA256     string            `yaml:"sha256"`        // of the suite file's text, in hexadecimal
	Sets       []string          `yaml:"set,omitempty"` // --set options over it
	Seeds      []int             `yaml:"seeds,flow"`
	Trials     int               `yaml:"trials"`      // of every detector
	SearchSeed int               `yaml:"search-seed"` // that they were drawn by
	Models     int               `yaml:"models"`      // that every trial looked at
	Versions   map[string]string `yaml:"versions"`    // program, methods, engine
	Detectors  map[string]Chosen `yaml:"detectors"`   // by name
}

// Chosen are the settings of one detector that did best, and how well that was on the calibration
// models. As the best of several trials the figures are too good: evaluation seeds say what they
// are worth.
type Chosen struct {
	Settings settings.Values `yaml:"settings"` // all of them, also those that the search did not vary
	Trial    int             `yaml:"trial"`    // from 1; 1 are the suite's own settings
	AUROC    float64         `yaml:"auroc"`
	Interval []float64       `yaml:"interval,flow,omitempty"` // 95 %, bootstrap over datasets; absent with one dataset
	Accuracy float64         `yaml:"accuracy"`                // of the verdicts at the detector's k
}

// Calibrated says which file detectors' settings were taken from.
type Calibrated struct {
	Path   string // as the suite names it
	SHA256 string // of its bytes, in hexadecimal

	seeds     []int
	detectors map[string]*yaml.Node // settings by the detector's name
}

// maxCalibration bounds a calibration file, in bytes.
const maxCalibration = 1 << 20

// beside reads files that a suite names, relative to the folder of the suite's file. Where none
// lies there, the file of that name that comes with the program is read.
func beside(suite string) func(name string) ([]byte, error) {
	return func(name string) ([]byte, error) {
		path := name
		if !filepath.IsAbs(name) {
			path = filepath.Join(filepath.Dir(suite), name)
		}
		return readOr(path, name, maxCalibration)
	}
}

// readOr reads a file of the disk or, where there is none, the program's own that is called so,
// with configs/ before it or without.
func readOr(path, name string, most int64) ([]byte, error) {
	text, err := files.Read(path, most)
	if errors.Is(err, fs.ErrNotExist) {
		for _, own := range []string{path, name} {
			if there, e := configs.Suites.ReadFile(strings.TrimPrefix(filepath.ToSlash(filepath.Clean(own)), "configs/")); e == nil {
				return there, nil
			}
		}
	}
	return text, err
}

// within reads files that a suite of fsys names.
func within(fsys fs.FS) func(name string) ([]byte, error) {
	return func(name string) ([]byte, error) {
		f, err := fsys.Open(filepath.ToSlash(filepath.Clean(name)))
		if err != nil {
			return nil, err
		}
		defer f.Close()
		return bounded(f)
	}
}

func bounded(r io.Reader) ([]byte, error) {
	text, err := io.ReadAll(io.LimitReader(r, maxCalibration+1))
	if err == nil && len(text) > maxCalibration {
		err = fmt.Errorf("larger than %d bytes: no calibration", maxCalibration)
	}
	return text, err
}

// calibrated reads the calibration that a suite names at n. Every setting in it is checked against
// what its detector declares; errors name the line of the calibration file.
func (s *source) calibrated(n *yaml.Node) (*Calibrated, error) {
	path, err := s.word(n, "calibrated")
	if err != nil {
		return nil, err
	}
	text, err := s.read(path)
	if err != nil {
		return nil, s.errorf(n, "calibrated: reading what `calibrate` wrote: %v", err)
	}
	c, err := readCalibration(path, text)
	if err != nil {
		return nil, s.errorf(n, "calibrated: %v", err)
	}
	return c, nil
}

func readCalibration(path string, text []byte) (*Calibrated, error) {
	s := &source{name: path}
	root, err := s.parse(text)
	if err != nil {
		return nil, err
	}
	f, err := s.fields(root, "a calibration", "suite", "sha256", "set", "seeds", "trials", "search-seed", "models", "versions", "detectors")
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"seeds", "detectors"} {
		if f[name] == nil {
			return nil, s.errorf(root, "the calibration does not say its %s", name)
		}
	}
	sum := sha256.Sum256(text)
	c := &Calibrated{Path: path, SHA256: hex.EncodeToString(sum[:]), detectors: map[string]*yaml.Node{}}
	if c.seeds, err = s.calibrationSeeds(f["seeds"]); err != nil {
		return nil, err
	}
	if f["detectors"].Kind != yaml.MappingNode {
		return nil, s.errorf(f["detectors"], "detectors: want settings by detector, got %s", describe(f["detectors"]))
	}
	for _, e := range entries(f["detectors"]) {
		d, err := inspector.Find(e.name)
		if err != nil {
			return nil, s.errorf(e.key, "%v", err)
		}
		chosen, err := s.fields(e.value, "detector "+e.name, "settings", "trial", "auroc", "interval", "accuracy")
		if err != nil {
			return nil, err
		}
		if chosen["settings"] == nil {
			return nil, s.errorf(e.value, "detector %s: the calibration has no settings for it", e.name)
		}
		if _, err := s.resolve(chosen["settings"], "detector "+e.name, d.Params); err != nil {
			return nil, err
		}
		c.detectors[e.name] = chosen["settings"]
	}
	return c, nil
}

// calibrationSeeds reads seeds and refuses those of evaluations.
func (s *source) calibrationSeeds(n *yaml.Node) (seeds []int, err error) {
	list, err := s.list(n, "seeds")
	if err != nil {
		return nil, err
	}
	for _, v := range list {
		seed, err := s.integer(v, "seeds", 0, 1<<31-1)
		if err != nil {
			return nil, err
		}
		if seed < FirstCalibrationSeed {
			return nil, s.errorf(v, "seeds: %d is an evaluation seed; settings are chosen on seeds of %d and above alone", seed, FirstCalibrationSeed)
		}
		seeds = append(seeds, seed)
	}
	if len(seeds) == 0 {
		return nil, s.errorf(n, "seeds: the list is empty")
	}
	return seeds, nil
}

// fill returns a detector's entry of a suite with the calibrated settings that it does not give
// itself.
func (c *Calibrated) fill(n *yaml.Node) *yaml.Node {
	own := n
	if n.Kind == yaml.ScalarNode {
		own = &yaml.Node{Kind: yaml.MappingNode, Tag: "!!map", Line: n.Line,
			Content: []*yaml.Node{{Kind: yaml.ScalarNode, Tag: "!!str", Value: "name", Line: n.Line}, n}}
	}
	name := child(own, "name")
	if name == nil || c.detectors[name.Value] == nil {
		return n
	}
	filled := *own
	filled.Content = slices.Clone(own.Content)
	for _, e := range entries(c.detectors[name.Value]) {
		if child(own, e.name) == nil {
			filled.Content = append(filled.Content, e.key, e.value)
		}
	}
	return &filled
}

// FirstCalibrationSeed parts the seeds: settings are chosen on this one and those above, and judged
// on those below.
const FirstCalibrationSeed = 100

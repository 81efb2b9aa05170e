package suite

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"clipinspector/internal/experimentstest"
)

func TestEveryDetectorGetsAsManyDifferentTrials(t *testing.T) {
	text := experimentstest.TinySearch("builtin:mini")
	q := experimentstest.Read(t, ParseSearch, text)
	own := experimentstest.Read(t, Parse, text).Suites[0].Detectors
	if len(q.File.Suites) != 3 || !reflect.DeepEqual(q.File.Suites[0].Detectors, own) {
		t.Fatalf("%d trials, the first %+v, want the suite's own %+v", len(q.File.Suites), q.File.Suites[0].Detectors, own)
	}
	for i, d := range own {
		for a, u := range q.File.Suites {
			c := u.Detectors[i]
			if c.Name != d.Name || c.Settings.Int("optimise") != 16 {
				t.Errorf("%s: %+v", d.Name, c)
			}
			for b := range a {
				if reflect.DeepEqual(c, q.File.Suites[b].Detectors[i]) {
					t.Errorf("%s: trials %d and %d are the same", d.Name, b, a)
				}
			}
		}
	}
	// The draw is the seed's alone, and more trials go on where fewer ended.
	if again := experimentstest.Read(t, ParseSearch, text); !reflect.DeepEqual(again.File.Suites, q.File.Suites) {
		t.Error("another draw from the same seed")
	}
	more := experimentstest.Read(t, ParseSearch, text, "search.trials=4")
	if !reflect.DeepEqual(more.File.Suites[:3], q.File.Suites) {
		t.Error("with a fourth trial the first three are others")
	}
	different := false
	for seed := range 5 {
		other := experimentstest.Read(t, ParseSearch, text, fmt.Sprintf("search.seed=%d", seed+2))
		different = different || !reflect.DeepEqual(other.File.Suites, q.File.Suites)
	}
	if !different {
		t.Error("six seeds draw the same")
	}
	// All there are: three by two for CI besides its own.
	all := experimentstest.Read(t, ParseSearch, text, "search.trials=7", "search.detectors.neural-cleanse.asr=[0.7, 0.8]")
	drawn := map[[2]float64]bool{}
	for _, u := range all.File.Suites[1:] {
		drawn[[2]float64{u.Detectors[0].Settings.Float("epsilon"), u.Detectors[0].Settings.Float("margin")}] = true
	}
	if len(drawn) != 6 {
		t.Errorf("drawn: %v", drawn)
	}
}

func TestBadSearchesAreRefusedWithTheirLine(t *testing.T) {
	const text = short + "detectors: [ci]\nsearch: {trials: 2, detectors.ci.epsilon: [0.02, 0.03]}\n"
	calibration := strings.NewReplacer("[1]", "[100]", "[clean]", "[clean, sig]").Replace(text)
	if q := experimentstest.Read(t, ParseSearch, calibration); len(q.File.Suites) != 2 {
		t.Fatalf("%+v", q)
	}
	for _, c := range []struct{ name, text, set, want string }{
		{"evaluation seed", strings.Replace(calibration, "[100]", "[100, 99]", 1), "", "suite.yaml:3: seeds: 99 is an evaluation seed"},
		{"evaluation seed by --set", calibration, "seeds=[101,1]", "--set seeds=[101,1]: seeds: 1 is an evaluation seed"},
		{"no backdoors", strings.Replace(calibration, "[clean, sig]", "[clean]", 1), "", "suite.yaml:5: attacks: settings are chosen by AUROC"},
		{"no clean models", strings.Replace(calibration, "[clean, sig]", "[sig]", 1), "", "suite.yaml:5: attacks: settings are chosen by AUROC"},
		{"no search", short + "detectors: [ci]\n", "", "suite.yaml:1: the suite has no section search"},
		{"no candidates for a detector", calibration, "detectors=[ci, pixel-backdoor]", "suite.yaml:7: search: nothing to choose from for detector pixel-backdoor"},
		{"too few", calibration, "search.trials=4", "suite.yaml:7: search: 4 trials, but detector ci has only 3 different settings"},
		{"too few, as one is the default", calibration, "search={trials: 3, detectors.ci.margin: [5, 5.0, 7]}",
			"--set search={trials: 3, detectors.ci.margin: [5, 5.0, 7]}: search: 3 trials, but detector ci has only 2"},
		{"no trials", calibration, "search.trials=0", "--set search.trials=0: search: trials: want 1 to"},
		{"unknown setting", calibration, "search.detectors.ci.epsilom=[1]", `--set search.detectors.ci.epsilom=[1]: detector ci: unknown setting "epsilom"`},
		{"value out of range", calibration, "search.detectors.ci.epsilon=[0.1, 2]", `--set search.detectors.ci.epsilon=[0.1, 2]: detector ci: setting "epsilon"`},
		{"unknown detector", calibration, "search.detectors.cj.epsilon=[0.1]", `--set search.detectors.cj.epsilon=[0.1]: there is no "detectors.cj"`},
		{"not a detector's", calibration, "search.tuning.epochs=[1]", `--set search.tuning.epochs=[1]: search: "tuning.epochs": want trials, measurements, seed or detectors.NAME.SETTING`},
		{"a detector's name", calibration, "search.detectors.ci.name=[ci]", `--set search.detectors.ci.name=[ci]: search: "detectors.ci.name": want`},
		{"all detectors", calibration, "search.detectors.*.batch=[8]", `--set search.detectors.*.batch=[8]: search: "detectors.*.batch": want`},
		{"no list", calibration, "search.detectors.ci.margin=1", "--set search.detectors.ci.margin=1: search: detectors.ci.margin: want a list"},
		{"no values", calibration, "search.detectors.ci.margin=[]", "--set search.detectors.ci.margin=[]: search: detectors.ci.margin has no values"},
		{"no mapping", calibration, "search=3", "--set search=3: search: want paths"},
		{"with a sweep", calibration, "sweep.shots=[1,2]", "suite.yaml:7: search: a suite that settings are chosen on has no sweep"},
		{"with a repair", calibration, "repair={}", "suite.yaml:7: search: a suite that settings are chosen on has no repair"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var sets []string
			if c.set != "" {
				sets = []string{c.set}
			}
			_, err := ParseSearch("suite.yaml", []byte(c.text), sets)
			if err == nil || !strings.HasPrefix(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got  %v\nwant %s...", err, c.want)
			}
		})
	}
	// `run` ignores a search, but not its mistakes.
	if _, err := Parse("suite.yaml", []byte(calibration), []string{"search.detectors.ci.epsilom=[1]"}); err == nil {
		t.Error("run takes a search with an unknown setting")
	}
}

func TestBadCalibrationsAreRefusedWithTheirLine(t *testing.T) {
	const good = "suite: s\nseeds: [101]\ndetectors:\n  ci:\n    settings: {epsilon: 0.05}\n    auroc: 0.9\n"
	text := short + "detectors: [ci]\ncalibrated: c/mini.yaml\n"
	read := func(calibration string) (*File, error) {
		return ParseFS(fstest.MapFS{"c/mini.yaml": {Data: []byte(calibration)}}, "suite.yaml", []byte(text), nil)
	}
	if f, err := read(good); err != nil || f.Suites[0].Detectors[0].Settings.Float("epsilon") != 0.05 {
		t.Fatalf("%+v, %v", f, err)
	}
	for _, c := range []struct{ name, text, want string }{
		{"unknown setting", strings.Replace(good, "epsilon", "epsilom", 1), `5: detector ci: unknown setting "epsilom"`},
		{"out of range", strings.Replace(good, "0.05", "5", 1), `5: detector ci: setting "epsilon": want`},
		{"text for a number", strings.Replace(good, "0.05", "x", 1), `5: detector ci: setting "epsilon": want a number`},
		{"unknown detector", strings.Replace(good, "  ci:", "  cj:", 1), `4: unknown detector "cj"`},
		{"unknown key", good + "    aurok: 1\n", `7: unknown key "aurok"`},
		{"unknown key of all", good + "trails: 1\n", `7: unknown key "trails"`},
		{"evaluation seeds", strings.Replace(good, "101", "7", 1), "2: seeds: 7 is an evaluation seed"},
		{"no seeds", strings.Replace(good, "seeds: [101]\n", "", 1), "1: the calibration does not say its seeds"},
		{"no detectors", "seeds: [101]\n", "1: the calibration does not say its detectors"},
		{"no settings", "seeds: [101]\ndetectors: {ci: {auroc: 1}}\n", "2: detector ci: the calibration has no settings"},
		{"settings are a list", "seeds: [101]\ndetectors: {ci: {settings: [1]}}\n", "2: detector ci: want settings"},
		{"detectors are a list", "seeds: [101]\ndetectors: [ci]\n", "2: detectors: want settings by detector"},
		{"twice", good + "seeds: [102]\n", `7: "seeds" is already set`},
		{"no YAML", "seeds: [\n", ""},
		{"empty", "", "1: the file is empty"},
		{"huge", "# " + strings.Repeat("x", maxCalibration), ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := read(c.text)
			want := "suite.yaml:7: calibrated: "
			if c.want != "" {
				want += "c/mini.yaml:" + c.want
			}
			if err == nil || !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got  %.300v\nwant %s...", err, want)
			}
		})
	}
	for _, path := range []string{"absent.yaml", ".", "/dev/zero"} {
		if _, err := Parse("suite.yaml", []byte(text), []string{"calibrated=" + path}); err == nil ||
			!strings.HasPrefix(err.Error(), "--set calibrated="+path+": calibrated: reading") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// A suite on the disk names files beside itself, wherever the program runs.
func TestCalibrationsLieBesideTheSuite(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"suite.yaml": short + "detectors: [{name: ci, margin: 7}]\ncalibrated: c.yaml\n",
		"c.yaml":     "seeds: [101]\ndetectors: {ci: {settings: {epsilon: 0.05, margin: 3}}, neural-cleanse: {settings: {}}}\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	f, err := Load(filepath.Join(dir, "suite.yaml"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if s := f.Suites[0].Detectors[0].Settings; s.Float("epsilon") != 0.05 || s.Float("margin") != 7 {
		t.Errorf("%v", s)
	}
}

func FuzzReadCalibration(f *testing.F) {
	f.Add([]byte("seeds: [101]\ndetectors: {ci: {settings: {epsilon: 0.05}}}\n"))
	f.Add([]byte("seeds: [101]\ndetectors: {ci: {settings: {epsilon: 0.05, epsilon: 1}, interval: [0, 1]}}\n"))
	f.Add([]byte("detectors: &a {ci: *a}\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := readCalibration("c.yaml", text)
		if err != nil {
			return
		}
		for name := range c.detectors { // what is read can be used
			u, err := (&source{name: "suite.yaml", read: func(string) ([]byte, error) { return text, nil }}).file(
				[]byte(short + "detectors: [" + name + "]\ncalibrated: c.yaml\n"))
			if err != nil || u.Suites[0].Detectors[0].Name != name {
				t.Errorf("%s: %v", name, err)
			}
		}
	})
}

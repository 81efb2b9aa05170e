package suite

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"
	"testing/fstest"

	"clipinspector/internal/experimentstest"
)

const short = `name: s
clip: builtin:mini
seeds: [1]
datasets: [mini-pets]
attacks: [clean]
`

func TestMistakesAreRefusedWithTheirLine(t *testing.T) {
	for _, c := range []struct{ name, text, set, want string }{
		{"unknown key", short + "sedes: [2]\n", "", `suite.yaml:6: unknown key "sedes"`},
		{"repeated key", short + "shots: 4\nshots: 5\n", "", `suite.yaml:7: "shots" is already set in line 6`},
		{"repeated key inside", short + "tuning: {epochs: 1, epochs: 2}\n", "", `suite.yaml:6: "epochs" is already set`},
		{"fraction for a whole number", short + "shots: 1.5\n", "", "suite.yaml:6: shots: want a whole number, got 1.5"},
		{"fraction for a parameter", short + "tuning:\n  epochs: 1.5\n", "", `suite.yaml:7: tuning: setting "epochs": want a whole number, got 1.5`},
		{"float for a parameter", short + "tuning: {epochs: 2.0}\n", "", `suite.yaml:6: tuning: setting "epochs": want a whole number, got 2.0`},
		{"octal", short + "shots: 010\n", "", `suite.yaml:6: shots: write the number "010" in plain decimal`},
		{"octal of a parameter", short + "tuning: {epochs: 010}\n", "", `suite.yaml:6: tuning: epochs: write the number "010"`},
		{"hexadecimal", short + "shots: 0x10\n", "", "suite.yaml:6: shots: write the number"},
		{"underscores", short + "shots: 1_0\n", "", "suite.yaml:6: shots"},
		{"huge", short + "shots: 99999999999999999999\n", "", "suite.yaml:6: shots"},
		{"text for a number", short + "shots: \"16\"\n", "", `suite.yaml:6: shots: want a whole number, got the quoted text "16": leave out the quotes`},
		{"text for a parameter", short + "tuning: {rate: '0.1'}\n", "", `suite.yaml:6: tuning: setting "rate": want a number, got the quoted text "0.1": leave out the quotes`},
		{"TAB", short + "tuning:\n\tepochs: 2\n", "", "suite.yaml:7: no YAML: found character that cannot start any token (YAML is indented by spaces"},
		{"out of range", short + "shots: 0\n", "", "suite.yaml:6: shots: want 1 to"},
		{"not finite", short + "tuning: {rate: .nan}\n", "", "suite.yaml:6: tuning: rate: want a finite"},
		{"null", short + "shots:\n", "", "suite.yaml:6: shots has no value"},
		{"second document", short + "---\nname: t\n", "", "suite.yaml:6: a second document"},
		{"anchor", short + "tuning: &x {epochs: 2}\n", "", "suite.yaml:6: anchors"},
		{"no YAML", short + "tuning: {epochs: 2\n", "", "suite.yaml:"},
		{"empty", "# nothing\n", "", "suite.yaml:1: the file is empty"},
		{"list", "- a\n", "", "suite.yaml:1: want settings"},
		{"missing", "name: s\n", "", "suite.yaml:1: the suite does not say its clip"},
		{"bad name", strings.Replace(short, "name: s", "name: ../s", 1), "", "suite.yaml:1: name: want letters"},
		{"empty list", strings.Replace(short, "[1]", "[]", 1), "", "suite.yaml:3: seeds: the list is empty"},
		{"repeated seed", strings.Replace(short, "[1]", "[1, 1]", 1), "", "suite.yaml:3: seeds: element 1 is the same"},
		{"repeated attack", strings.Replace(short, "[clean]", "[sig, {name: sig}]", 1), "", "suite.yaml:5: attacks: element 1 is the same"},
		{"unknown attack", strings.Replace(short, "[clean]", "\n  - clean\n  - badnet", 1), "", `suite.yaml:7: unknown attack "badnet"; known are all-to-all, badclip, badnets`},
		{"unknown setting", strings.Replace(short, "[clean]", "\n  - name: badnets\n    sides: 0.1", 1), "", `suite.yaml:7: attack badnets: unknown setting "sides"`},
		{"parameter out of range", strings.Replace(short, "[clean]", "[{name: badnets, side: 2}]", 1), "", `suite.yaml:5: attack badnets: setting "side": want 0.02 to 1, got 2`},
		{"nameless attack", strings.Replace(short, "[clean]", "[{side: 0.1}]", 1), "", "suite.yaml:5: attack: settings without a name"},
		{"unknown learner", short + "learner: cop\n", "", `suite.yaml:6: unknown prompt learner "cop"`},
		{"unknown detector", short + "detectors: [c]\n", "", `suite.yaml:6: unknown detector "c"`},
		{"detector parameter", short + "detectors: [{name: ci, epsilon: x}]\n", "", `suite.yaml:6: detector ci: setting "epsilon": want a number`},
		{"overlap", short + "pool: {overlap: 1}\n", "", "suite.yaml:6: pool: overlap: want true or false"},
		{"repair without a detector", short + "detectors: [pixel-backdoor]\nrepair: {epochs: 2}\n", "", `suite.yaml:7: repair: the suite has no detector "ci"`},
		{"repair without a class", short + "detectors: [decree]\nrepair: {detector: decree}\n", "", "suite.yaml:7: repair: decree suspects no class"},
		{"repair parameter", short + "detectors: [ci]\nrepair: {epoch: 2}\n", "", `suite.yaml:7: repair: unknown setting "epoch"`},
		{"repair is no list", short + "detectors: [ci]\nrepair: [ci]\n", "", "suite.yaml:7: repair: want settings"},
		{"set: value", short, "tuning.epochs=1.5", "--set tuning.epochs=1.5: tuning"},
		{"set: key", short, "tunning.epochs=1", `--set tunning.epochs=1: unknown key "tunning"`},
		{"set: parameter", short, "attacks.clean.side=1", `--set attacks.clean.side=1: attack clean: unknown setting "side"`},
		{"set: element", short, "attacks.sig.amplitude=1", `--set attacks.sig.amplitude=1: there is no "attacks.sig"; the list has clean`},
		{"set: all that have it", short, "attacks.*.amplitude=1", `--set attacks.*.amplitude=1: "attacks.*.amplitude": none of the attacks has a setting "amplitude"`},
		{"set: all of no list", short, "shots.*.x=1", `--set shots.*.x=1: "shots.*.x": there is no list "shots"`},
		{"set: no value", short, "shots", "--set shots: want PATH=VALUE"},
		{"set: below a value", short, "shots.x=1", "--set shots.x=1"},
		{"sweep: value", short + "sweep: {shots: [1, x]}\n", "", "suite.yaml:6: shots: want a whole number, got x"},
		{"sweep: no list", short + "sweep: {shots: 1}\n", "", "suite.yaml:6: sweep: shots: want a list"},
		{"sweep: name", short + "sweep: {name: [a]}\n", "", `suite.yaml:6: sweep: "name" cannot be swept`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var sets []string
			if c.set != "" {
				sets = []string{c.set}
			}
			_, err := Parse("suite.yaml", []byte(c.text), sets)
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %s...", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "\n") {
				t.Errorf("more than one line: %v", err)
			}
		})
	}
}

func TestOverrides(t *testing.T) {
	text := short + "detectors: [ci, {name: neural-cleanse, rounds: 3}]\n"
	f := experimentstest.Read(t, Parse, text, "tuning.epochs=7", "attacks=[clean, sig]", "attacks.sig.amplitude=0.1", "detectors.ci.k=3", "detectors.1.rounds=9",
		"learner.context=4", "datasets.mini-pets.classes=3", "pool.images=50", "seeds=[4, 5]", "data={size: 32}")
	u := f.Suites[0]
	if u.Tuning.Int("epochs") != 7 || u.Attacks[1].Settings.Float("amplitude") != 0.1 || u.Detectors[0].Settings.Float("k") != 3 ||
		u.Detectors[1].Settings.Int("rounds") != 9 || u.Datasets[0] != (DatasetSpec{"mini-pets", 3}) || u.Pool.Images != 50 ||
		!reflect.DeepEqual(u.Seeds, []int{4, 5}) || u.Data.Size != 32 {
		t.Errorf("%+v", u)
	}
	if u.Learner.Name != "coop" || u.Learner.Settings.Int("context") != 4 {
		t.Errorf("learner %+v", u.Learner)
	}
}

func TestOverridesOfAll(t *testing.T) {
	text := short + "detectors: [ci, neural-cleanse]\nsweep: {'attacks.*.share': [0.25, 0.5], 'datasets.*.classes': [3]}\n"
	f := experimentstest.Read(t, Parse, text, "datasets=[mini-pets, mini-food]", "attacks=[clean, sig, {name: wanet, grid: 3}]", "detectors.*.epsilon=0.05")
	if len(f.Suites) != 2 {
		t.Fatalf("%d combinations", len(f.Suites))
	}
	for i, share := range []float64{0.25, 0.5} {
		u := f.Suites[i]
		if u.Attacks[1].Settings.Float("share") != share || u.Attacks[2].Settings.Float("share") != share || u.Attacks[2].Settings.Int("grid") != 3 ||
			len(u.Attacks[0].Settings) != 0 || u.Datasets[0].Classes != 3 || u.Datasets[1].Classes != 3 || u.Detectors[0].Settings.Float("epsilon") != 0.05 {
			t.Errorf("%+v", u)
		}
	}
}

func TestSweepsAreCartesian(t *testing.T) {
	f := experimentstest.Read(t, Parse, short+"detectors: [ci]\nsweep: {tuning.epochs: [10, 20], detectors.ci.epsilon: [0.02, 0.03, 0.04]}\n", "sweep.shots=[1, 2]")
	if len(f.Suites) != 12 {
		t.Fatalf("%d combinations", len(f.Suites))
	}
	got := map[[3]float64]bool{}
	for _, u := range f.Suites {
		got[[3]float64{float64(u.Tuning.Int("epochs")), u.Detectors[0].Settings.Float("epsilon"), float64(u.Shots)}] = true
	}
	if len(got) != 12 || !got[[3]float64{20, 0.03, 1}] {
		t.Errorf("%v", got)
	}
}

func TestAllConfigsParse(t *testing.T) {
	files, err := filepath.Glob("../../configs/*.yaml")
	if err != nil || len(files) < 4 {
		t.Fatal(files, err)
	}
	ablations, err := filepath.Glob("../../configs/ablations/*.yaml")
	if err != nil || len(ablations) < 11 {
		t.Fatal(ablations, err)
	}
	for _, path := range append(files, ablations...) {
		f, err := Load(path, nil)
		if err != nil {
			t.Error(err)
			continue
		}
		if want := strings.TrimSuffix(filepath.Base(path), ".yaml"); f.Name != want {
			t.Errorf("%s is named %s", path, f.Name)
		}
		if text, err := os.ReadFile(path); err != nil || !regexp.MustCompile(`# ./run.sh (run|calibrate) `+filepath.ToSlash(strings.TrimPrefix(path, "../../"))).Match(text) {
			t.Errorf("%s does not say how it is run: %v", path, err)
		}
	}
}

// Far from this project's folder its suites are still found, and a suite of one's own extends them;
// a file that is there counts first.
func TestSuitesComeWithTheProgram(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	for _, path := range []string{"configs/mini-clean.yaml", "configs/ablations/k.yaml", "mini.yaml"} {
		if _, err := Load(path, nil); err != nil {
			t.Errorf("%s: got %v, want the program's own", path, err)
		}
	}
	own := filepath.Join(dir, "own.yaml")
	if err := os.WriteFile(own, []byte("extends: mini.yaml\nname: own\ndatasets: [mini-pets]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := Load(own, nil)
	if err != nil || len(f.Suites[0].Datasets) != 1 || len(f.Suites[0].Attacks) != 5 {
		t.Fatalf("got %+v, %v; want the program's mini.yaml on one dataset", f, err)
	}
	if err := os.WriteFile("mini.yaml", []byte(short+"detectors: [ci]\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if f, err = Load(own, nil); err != nil || len(f.Suites[0].Attacks) == 5 {
		t.Errorf("got %+v, %v; want the mini.yaml that lies beside", f, err)
	}
	if _, err := Load("none.yaml", nil); err == nil {
		t.Error("a suite that is nowhere was read")
	}
}

// A suite that extends another has all its keys but those that it gives itself. What is wrong is
// named by file and line, whichever file it stands in.
func TestASuiteExtendsAnother(t *testing.T) {
	base := "# What base is.\n" + strings.Replace(short, "name: s", "name: base", 1) + "detectors: [ci]\nshots: 4\ncalibrated: c/c.yaml\n"
	files := fstest.MapFS{"b/base.yaml": {Data: []byte(base)}, "b/c/c.yaml": {Data: []byte("seeds: [101]\ndetectors: {ci: {settings: {margin: 7}}}\n")},
		"b/bad.yaml":   {Data: []byte(strings.Replace(base, "shots: 4", "shots: x", 1))},
		"b/again.yaml": {Data: []byte("extends: base.yaml\nname: again\n")}, "b/empty.yaml": {Data: []byte("{}\n")}}
	const own = "extends: b/base.yaml\nname: t\nattacks: [clean, sig]\n"
	f, err := ParseFS(files, "suite.yaml", []byte(own), []string{"seeds=[7]"})
	if err != nil {
		t.Fatal(err)
	}
	u := f.Suites[0]
	if f.Name != "t" || u.Shots != 4 || len(u.Attacks) != 2 || u.Seeds[0] != 7 || u.Detectors[0].Settings.Float("margin") != 7 || f.Extends != "b/base.yaml" {
		t.Errorf("got %+v", u)
	}
	if strings.Contains(f.Text, "What base is") {
		t.Errorf("the resolved text has the other suite's head:\n%s", f.Text)
	}
	if _, err := ParseFS(files, "suite.yaml", []byte("extends: b/empty.yaml\nname: t\n"), nil); err == nil {
		t.Error("a suite of a name alone is taken")
	}
	again, err := ParseFS(files, "suite.yaml", []byte(f.Text), f.Sets)
	if err != nil || !reflect.DeepEqual(again.Suites[0].Detectors, u.Detectors) || again.Suites[0].Shots != 4 || again.Extends != "" {
		t.Errorf("the resolved text is another suite: %v\n%s", err, f.Text)
	}
	for text, want := range map[string]string{
		own + "shots: y\n": "suite.yaml:4: shots: want a whole number, got y",
		strings.Replace(own, "base.yaml", "bad.yaml", 1):   "b/bad.yaml:8: shots: want a whole number, got x",
		strings.Replace(own, "base.yaml", "again.yaml", 1): `suite.yaml:1: extends: b/again.yaml extends "base.yaml" itself`,
		strings.Replace(own, "base.yaml", "none.yaml", 1):  "suite.yaml:1: extends: reading the suite to start from",
		"extends: b/base.yaml\n":                           "suite.yaml:1: a suite that extends another says its own name",
		"extends: [b]\nname: t\n":                          "suite.yaml:1: extends: want a single value",
	} {
		if _, err := ParseFS(files, "suite.yaml", []byte(text), nil); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}

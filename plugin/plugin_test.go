package plugin_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"clipinspector/attacks"
	"clipinspector/engine/plain"
	"clipinspector/experiments"
	"clipinspector/experiments/suite"
	"clipinspector/inspector"
	"clipinspector/internal/cliptest"
	"clipinspector/internal/dense"
	"clipinspector/plugin"
	"clipinspector/prompts"
	"clipinspector/results/store"
	"clipinspector/settings"
	"clipinspector/triggers"

	_ "clipinspector/baselines"
)

// needPython skips a test where no Python has numpy, and runs plugins by the one that has.
func needPython(t *testing.T) {
	t.Helper()
	t.Cleanup(plugin.Close)
	own, _ := filepath.Abs("../.tools/python/bin/python") // which run.sh test makes
	for _, name := range []string{os.Getenv(plugin.PythonVariable), "python3", own} {
		if name != "" && exec.Command(name, "-c", "import numpy").Run() == nil {
			t.Setenv(plugin.PythonVariable, name)
			return
		}
	}
	t.Skipf("no Python here has numpy: set %s to one that has", plugin.PythonVariable)
}

// write writes a plugin whose file has a name of its own, since results go by it.
func write(t *testing.T, text string) (name string) {
	t.Helper()
	name = regexp.MustCompile(`\W`).ReplaceAllString(t.Name(), "_") + fmt.Sprint(rand.Uint32()) + ".py"
	if err := os.WriteFile(filepath.Join(folder(t), name), []byte("import numpy as np, os, time\nfrom clip_inspector.plugin import *\n"+text), 0o644); err != nil {
		t.Fatal(err)
	}
	return name
}

func folder(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(os.TempDir(), "clip-inspector-plugin-tests")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func attack(t *testing.T, text, name string) (*attacks.Attack, error) {
	t.Helper()
	dir := folder(t)
	return plugin.Attack(plugin.Prefix+write(t, text)+":"+name, func(path string) string { return filepath.Join(dir, path) })
}

func defaults(t *testing.T, params []settings.Param) settings.Values {
	t.Helper()
	v, err := settings.Resolve(params, nil)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// oneLine fails unless err is a line that says all of want.
func oneLine(t *testing.T, err error, want ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("nothing is wrong, want an error that says %q", want)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) || strings.Contains(err.Error(), "\n") {
			t.Errorf("got %v, want one line that says %q", err, w)
		}
	}
}

// Each kind of trigger comes over as it was given, with the settings that the suite gave.
func TestAttacksGiveTriggers(t *testing.T) {
	needPython(t)
	const text = `
@declare(Param("level", 0.5, "what is in all numbers", min=0, max=1), Param("early-stop", 3, "not used by it", min=1, max=9))
class Every:
    """all kinds of triggers"""
    def __init__(self, level, early_stop):
        assert type(level) is float and type(early_stop) is int
        self.level = level
    def trigger(self, size, rng):
        return patch(np.full((size, size), self.level), np.ones((3, size, size)))

def Additive(size, rng):
    """a perturbation of random numbers"""
    return perturbation(rng.random(3, size, size) - 0.5)

def Warped(size, rng):
    """the image upside down"""
    at = np.linspace(-1, 1, size)
    x, y = np.meshgrid(at, at)
    return warp(np.stack([x, -y], 2))

def Negative(size, rng):
    """a function of images"""
    share = rng.random(1)[0]
    return lambda images: share * (1 - images)
`
	images := cliptest.Images(3, 32, 1)
	x := dense.Floats(images)
	rng := func() *rand.Rand { return rand.New(rand.NewPCG(4, 2)) }
	drawn := rng()
	share := drawn.Float64()
	for name, want := range map[string]func(i int) float32{
		"Every":    func(i int) float32 { return x[i] + 0.25*(1-x[i]) },
		"Additive": nil,
		"Warped": func(i int) float32 {
			row := i / 32 % 32
			return x[i+32*(31-2*row)]
		},
		"Negative": func(i int) float32 { return float32(share) * (1 - x[i]) },
	} {
		a, err := attack(t, text, name)
		if err != nil {
			t.Fatal(err)
		}
		v := defaults(t, a.Params)
		if name == "Every" {
			v["level"] = 0.25
		}
		p, err := a.Poison(t.Context(), v, 32, 5, 2, rng())
		if err != nil {
			t.Fatal(err)
		}
		if name == "Additive" {
			r := rng()
			delta := dense.Floats(p.Trigger.(triggers.Additive).Delta)
			for i, d := range delta {
				if w := float32(r.Float64() - 0.5); d != w {
					t.Fatalf("number %d of the perturbation is %v, want %v: the numbers of Go", i, d, w)
				}
			}
			continue
		}
		got, err := prompts.Triggered(t.Context(), plain.New[float32](), images, p.Trigger)
		if err != nil {
			t.Fatal(err)
		}
		for i, y := range dense.Floats(got) {
			if w := want(i); y < w-1e-5 || y > w+1e-5 {
				t.Fatalf("%s: pixel %d is %v, want %v", name, i, y, w)
			}
		}
	}
}

// What a plugin does wrong is one line that says what.
func TestFaultyAttacksAreOneLine(t *testing.T) {
	needPython(t)
	t.Setenv(plugin.SilenceVariable, "2s")
	const head = `def A(size, rng):
    """an attack that goes wrong"""
    `
	for body, want := range map[string]string{
		"raise ValueError('first\\nsecond')": "ValueError: first second",
		"os._exit(7)":                        "its process ended (exit status 7)",
		"return patch(np.ones((size, size + 1)), np.ones((3, size, size)))":     `tensor "mask" of a masked trigger has shape (32, 33)`,
		"return patch(np.full((size, size), np.nan), np.ones((3, size, size)))": "holds NaN",
		"return patch(np.full((size, size), 2.0), np.ones((3, size, size)))":    "holds 2, want 0 to 1",
		"return patch(np.ones((8, 8)), np.ones((3, 8, 8)))":                     "for images of 8 px, want 32",
		"return lambda images: images[:1]":                                      "images of shape (2, 3, 32, 32) became (1, 3, 32, 32)",
		"return lambda images: images + np.nan":                                 "a triggered image holds NaN",
		"return lambda images: images":                                          "the trigger changes nothing",
		"return perturbation(np.random.rand(3, size, size))":                    "drawn twice",
		"return 5":       "gave int",
		"time.sleep(60)": "has said nothing for 2s",
		"os.write(1, b'hello\\n'); print('this is no message'); raise OSError('x')": "OSError: x",
	} {
		_, err := attack(t, head+body+"\n", "A")
		oneLine(t, err, want, "attack python:", ":A: ")
	}
	for text, want := range map[string]string{
		"def A(size, rng):\n    return 1\n":             "no docstring",
		"def B(size, rng):\n    return 1\n":             "there is no A; the file has B",
		"class A:\n    'an attack without a trigger'\n": "no method trigger",
		"def A(size, rng\n":                             "SyntaxError",
		"import no_such_module\n":                       "No module named 'no_such_module'",
		"@declare(Param('Size', 1, 'how large it is', min=0, max=2))\ndef A(size, rng):\n    'an attack of one'\n":    "kebab-case",
		"@declare(Param('x', 1, 'how large it is'))\ndef A(size, rng):\n    'an attack of one'\n":                     "a range of numbers",
		"@declare(Param('share', 1.0, 'how many images', min=0, max=2))\ndef A(size, rng):\n    'an attack of one'\n": "every attack has it already",
		"@declare(Param('name', 'a', 'how it is called'))\ndef A(size, rng):\n    'an attack of one'\n":               "declared twice",
	} {
		_, err := attack(t, text, "A")
		oneLine(t, err, want)
	}
	for _, name := range []string{"python:x:A", "python:x.py", "python:.py:", "python::A"} {
		_, err := plugin.Attack(name, func(path string) string { return path })
		oneLine(t, err, "names no plugin")
	}
}

// A plugin that does not read is stopped as one that does not answer, though the program has more
// to say than a pipe takes.
func TestPluginsThatDoNotReadAreStopped(t *testing.T) {
	t.Cleanup(plugin.Close)
	deaf := filepath.Join(t.TempDir(), "deaf")
	script := `#!/bin/sh
echo '{"ready": 1}'
read request
echo '{"done": {"doc": "asks and does not listen", "params": []}}'
read request
while echo '{"ask": "random", "n": 100000}'; do :; done
`
	if err := os.WriteFile(deaf, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv(plugin.PythonVariable, deaf)
	t.Setenv(plugin.SilenceVariable, "300ms")
	begun := time.Now()
	_, err := attack(t, "", "A")
	oneLine(t, err, "it has read nothing for 300ms, and was stopped")
	if took := time.Since(begun); took > 30*time.Second {
		t.Errorf("it took %s", took)
	}
}

// A function of images outlives the process that it was drawn in: another draws it again, from the
// same numbers.
func TestFunctionsAreDrawnAgain(t *testing.T) {
	needPython(t)
	a, err := attack(t, `
def A(size, rng):
    """scales by a random number"""
    share = rng.random(1)[0]
    return lambda images: images * share
`, "A")
	if err != nil {
		t.Fatal(err)
	}
	images := cliptest.Images(2, 32, 1)
	p, err := a.Poison(t.Context(), defaults(t, a.Params), 32, 5, 2, rand.New(rand.NewPCG(1, 1)))
	if err != nil {
		t.Fatal(err)
	}
	apply := func() []float32 {
		got, err := prompts.Triggered(t.Context(), plain.New[float32](), images, p.Trigger)
		if err != nil {
			t.Fatal(err)
		}
		return dense.Floats(got)
	}
	first := apply()
	plugin.Close()
	if second := apply(); fmt.Sprint(first) != fmt.Sprint(second) {
		t.Error("after another start the function makes other images")
	}
}

// run runs a suite that lies beside its plugins.
func run(t *testing.T, dir, text string) ([]store.ModelRow, []store.DetectionRow, error) {
	t.Helper()
	path := filepath.Join(dir, "suite.yaml")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	f, err := suite.Load(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	_, ran := experiments.Run(t.Context(), f, experiments.Options{Out: out, Device: "cpu", Workers: 1})
	s, err := store.OpenExisting(filepath.Join(out, experiments.StoreFile))
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	models, err := s.Models(f.Name)
	if err != nil {
		t.Fatal(err)
	}
	detections, err := s.Detections(f.Name)
	if err != nil {
		t.Fatal(err)
	}
	return models, detections, ran
}

const small = `
name: small
clip: builtin:mini
seeds: [1]
datasets: [{name: mini-pets, classes: 6}]
shots: 4
test-images: 24
pool: {name: mini, images: 96}
ood: {images: 24}
`

// BadNets and Neural Cleanse in Python, as docs/python.md has them, give the bytes of this
// program's own.
func TestPythonGivesTheBytesOfGo(t *testing.T) {
	needPython(t)
	plugins, err := filepath.Abs("../examples/plugins")
	if err != nil {
		t.Fatal(err)
	}
	models, detections, err := run(t, t.TempDir(), small+fmt.Sprintf(`
tuning: {epochs: 20}
attacks:
  - {name: badnets, pattern: noise, side: 0.2, margin: 0.07}
  - {name: "python:%[1]s/badnets.py:badnets", pattern: noise, side: 0.2, margin: 0.07}
detectors:
  - {name: neural-cleanse, optimise: 64, measure: 32, batch: 2, asr: 0.5, patience: 2, early-stop: 4}
  - {name: "python:%[1]s/neural_cleanse.py:neural_cleanse", optimise: 64, measure: 32, batch: 2, asr: 0.5, patience: 2, early-stop: 4}
`, plugins))
	if err != nil || len(models) != 2 || len(detections) != 4 {
		t.Fatalf("%v; %d models, %d detections", err, len(models), len(detections))
	}
	if a, b := models[0].Result, models[1].Result; a.Hash != b.Hash || a.TriggerHash != b.TriggerHash || a.TriggerHash == "" || a.Target != b.Target {
		t.Errorf("Go: model %s, trigger %s; Python: model %s, trigger %s", a.Hash, a.TriggerHash, b.Hash, b.TriggerHash)
	}
	want := detections[0].Result
	stopped := false
	for i, d := range detections {
		got := d.Result
		if got.Index != want.Index || got.Suspect != want.Suspect || got.Backdoored != want.Backdoored || got.ImagePasses != want.ImagePasses ||
			got.Hash != want.Hash || fmt.Sprint(got.Classes) != fmt.Sprint(want.Classes) {
			t.Errorf("detection %d, %s: %+v, want %+v", i, d.Cell.Detector, got, want)
		}
		stopped = stopped || got.ImagePasses < 6*(64+32)
	}
	if !stopped {
		t.Error("no class has stopped early: the schedule was not tried to its end")
	}
	// The content of the file is part of what a cell is.
	of := models[1].Cell.Settings["attack"].(map[string]any)
	raw, err := json.Marshal(of)
	if err != nil || len(fmt.Sprint(of["content"])) != 64 || of["name"] != "python:badnets.py:badnets" {
		t.Errorf("the identity holds %s, %v", raw, err)
	}
}

// A detector sees the pool, the delivered model, its logits and gradients; a cell of which it fails
// is a failed cell and no other.
func TestDetectors(t *testing.T) {
	needPython(t)
	dir := t.TempDir()
	const text = `
from clip_inspector.plugin import *
import numpy as np, os, zipfile

@declare(Param("of", "all", "what is looked at", choices=["all", "crash", "short", "nan", "exit"]))
def looks(look, of):
    """looks at everything that there is"""
    k = len(look.classes)
    if of == "crash": raise RuntimeError("no reason")
    if of == "short": return [1.0] * (k - 1)
    if of == "nan": return [float("nan")] * k
    if of == "exit": os._exit(3)
    assert look.pool.shape == (96, 3, look.size, look.size) and 0 <= look.pool.min() and look.pool.max() <= 1
    assert sorted(look.optimise + look.measure) == sorted(set(look.optimise + look.measure)) and len(look.optimise) == 64
    names = [n for d, _, n in os.walk(look.model) for n in n]
    assert names and zipfile.is_zipfile(os.path.join(look.model, "prompt_learner", "model.pth.tar-1")), names
    x = look.pool[:3]
    z = look.logits(x)
    w = np.zeros_like(z); w[0, 1] = 1; w[2, 0] = -1
    g = look.gradient(x, w)
    assert z.shape == (3, k) and g.shape == x.shape and not g[1].any()
    at = np.unravel_index(np.abs(g[0]).argmax(), g[0].shape)
    h = 1e-2
    y = x.copy(); y[0][at] += h
    u = x.copy(); u[0][at] -= h
    slope = (look.logits(y)[0, 1] - look.logits(u)[0, 1]) / (2 * h)
    assert abs(slope - g[0][at]) < 0.05 * abs(slope) + 1e-3, (slope, g[0][at])
    look.progress(1, 2)
    return [ClassScore(-float(c == 2), asr=0.5) for c in range(k)]
`
	if err := os.WriteFile(filepath.Join(dir, "looks.py"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	list := "detectors:\n"
	for _, of := range []string{"all", "crash", "short", "nan", "exit"} {
		list += fmt.Sprintf("  - {name: \"python:looks.py:looks\", of: %s, optimise: 64, measure: 32, k: 1.5, index: mad}\n", of)
	}
	_, detections, err := run(t, dir, small+"attacks: [clean]\ntuning: {epochs: 2}\n"+list)
	oneLine(t, err, "4 of 5 detections", "RuntimeError: no reason (looks.py:")
	for i, want := range []string{"", "RuntimeError: no reason (looks.py:", "it gave scores of 5 classes, the model has 6", "ValueError: the score of class 0 is nan",
		"its process ended (exit status 3)"} {
		d := detections[i]
		if want != "" {
			if d.State != store.Failed || !strings.Contains(d.Message, want) || strings.Contains(d.Message, "\n") {
				t.Errorf("%s, %q, want a failed cell that says %q", d.State, d.Message, want)
			}
			continue
		}
		if r := d.Result; d.State != store.Finished || r.Suspect != 2 || !r.Backdoored || len(r.Classes) != 6 || r.ImagePasses != 12 || r.Classes[1].ASR != 0.5 {
			t.Errorf("%s, %q, %+v: want class 2 suspected, after 12 image passes", d.State, d.Message, d.Result)
		}
	}
}

// Nobody runs a plugin but who loads a suite that names it.
func TestOnlySuitesRunPlugins(t *testing.T) {
	dir := t.TempDir()
	mark := filepath.Join(dir, "ran")
	if err := os.WriteFile(filepath.Join(dir, "marks.py"), []byte(fmt.Sprintf("open(%q, 'w')\n", mark)), 0o644); err != nil {
		t.Fatal(err)
	}
	text := small + "attacks: [\"python:marks.py:A\"]\ndetectors: [\"python:marks.py:B\"]\n"
	if _, err := suite.Parse(filepath.Join(dir, "suite.yaml"), []byte(text), nil); err == nil || !strings.Contains(err.Error(), "unknown attack") {
		t.Errorf("a text that anybody may have written: %v", err)
	}
	if _, err := inspector.Find("python:" + filepath.Join(dir, "marks.py") + ":B"); err == nil {
		t.Error("an inspection finds a plugin")
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("the plugin was run")
	}
	needPython(t)
	if err := os.WriteFile(filepath.Join(dir, "suite.yaml"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	_, err := suite.Load(filepath.Join(dir, "suite.yaml"), nil)
	oneLine(t, err, "suite.yaml:", "there is no A")
	if _, err := os.Stat(mark); err != nil {
		t.Error("the plugin that a suite names was not run")
	}
}

// Inversions that do not fit are refused before anything is computed.
func TestInversionsAreChecked(t *testing.T) {
	needPython(t)
	dir := t.TempDir()
	const text = `
from clip_inspector.plugin import *
import numpy as np

@declare(Param("case", 0, "which of the wrong inversions", min=0, max=9))
def wrong(look, case):
    """asks for an inversion that does not fit"""
    d = np.zeros((3, look.size, look.size))
    good = dict(start=[d], apply=lambda x, d: (x + d).clamp(0, 1), rates=[0.1], batch=8, rounds=2)
    bad = [dict(), dict(apply=lambda x, d: d), dict(batch=0), dict(rounds=10**9), dict(measure=[96]), dict(start=[d[:, :4]]), dict(rates=[]),
           dict(loss=lambda z, t: z), dict(penalty=lambda d: d.total()), dict(control=lambda: None)][case]
    return [o.loss for o in look.invert(**{**good, **bad})]
`
	if err := os.WriteFile(filepath.Join(dir, "wrong.py"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	list := "detectors:\n"
	wants := []string{"", "apply gives shape", "batch 0", "rounds 1000000000", "no image 96", "broadcast", "0 rates", "loss gives shape", "without a controller", "AttributeError"}
	for i := range wants {
		list += fmt.Sprintf("  - {name: \"python:wrong.py:wrong\", case: %d, optimise: 64, measure: 32}\n", i)
	}
	_, detections, err := run(t, dir, small+"attacks: [clean]\ntuning: {epochs: 2}\n"+list)
	if err == nil {
		t.Fatal("nothing failed")
	}
	for i, want := range wants {
		if d := detections[i]; want == "" && d.State != store.Finished || want != "" && (d.State != store.Failed || !strings.Contains(d.Message, want) || strings.Contains(d.Message, "\n")) {
			t.Errorf("case %d: %s, %q, want %q", i, d.State, d.Message, want)
		}
	}
}

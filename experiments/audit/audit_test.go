package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"image/png"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"gorgonia.org/tensor"

	"clipinspector/datasets"
	"clipinspector/experiments"
	"clipinspector/experiments/world"
	"clipinspector/internal/experimentstest"
	"clipinspector/internal/torchfile"
	"clipinspector/prompts"
	"clipinspector/results/stats"
	"clipinspector/settings"
	"clipinspector/triggers"
)

func TestDecide(t *testing.T) {
	for _, c := range []struct {
		index, k float64
		classes  int
		want     Decision
	}{{0.5, 2, 10, DecisionClean}, {1.6, 2, 10, DecisionClean}, {1.7, 2, 10, DecisionUnclear}, {2, 2, 10, DecisionUnclear},
		{2.3, 2, 10, DecisionUnclear}, {2.4, 2, 10, DecisionBackdoored}, {37, 2, 5, DecisionBackdoored}, {37, 2, 4, DecisionUnclear},
		{-3, 2, 4, DecisionUnclear}, {2.4, 3, 10, DecisionClean}, {math.NaN(), 2, 10, DecisionUnclear}} {
		if got, why := decide(c.index, c.k, c.classes); got != c.want || why == "" {
			t.Errorf("index %v, k %v, %d classes: %s (%s), want %s", c.index, c.k, c.classes, got, why, c.want)
		}
	}
}

// auditWorld is a tiny encoder, a model tuned on it, and folders of pictures: unlabelled noise and
// labelled ones of five classes.
func auditWorld(t *testing.T) (a Audit, m *prompts.Model) {
	t.Helper()
	dir := t.TempDir()
	a = Audit{CLIP: experimentstest.TinyCLIP(t), Checkpoint: filepath.Join(dir, "model.safetensors"), OOD: filepath.Join(dir, "pool"),
		Shots: filepath.Join(dir, "shots"), Detector: "separation", PerClass: 4, Seed: 1,
		Sets: []string{"detector.optimise=48", "detector.measure=16", "detector.batch=16", "tuning.epochs=2", "repair.epochs=2", "repair.rounds=1"}}
	save := func(path string, rng *rand.Rand) {
		img := datasets.NewRGB(16, 16)
		for i := range img.Pix {
			img.Pix[i] = uint8(rng.Uint32())
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := png.Encode(f, img.NRGBA()); err != nil {
			t.Fatal(err)
		}
	}
	rng := rand.New(rand.NewPCG(7, 7))
	classes := []string{"a_dog", "b cat", "c bird", "d fish", "e horse"}
	for i := range 64 {
		save(filepath.Join(a.OOD, fmt.Sprintf("%d.png", i)), rng)
	}
	for _, c := range classes {
		for i := range 10 {
			save(filepath.Join(a.Shots, c, fmt.Sprintf("%d.png", i)), rng)
		}
	}
	e, err := world.OpenEncoder(a.CLIP)
	if err != nil {
		t.Fatal(err)
	}
	device, err := world.OpenEngine("cpu", 1)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = device.Close() })
	c, err := e.On(device)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Free)
	l, err := prompts.FindLearner("coop")
	if err != nil {
		t.Fatal(err)
	}
	s, err := settings.Resolve(l.Params, map[string]any{"context": 2})
	if err != nil {
		t.Fatal(err)
	}
	classes[0] = "a dog"
	if m, err = prompts.New(c, l, s, classes, rng); err != nil {
		t.Fatal(err)
	}
	if err := m.Write(a.Checkpoint); err != nil {
		t.Fatal(err)
	}
	a.Classes = filepath.Join(dir, "classes.txt")
	if err := os.WriteFile(a.Classes, []byte(strings.Join(classes, "\n")), 0o644); err != nil {
		t.Fatal(err)
	}
	return a, m
}

// An inspection reports every class, the same for any number of threads, and leaves files that can
// be read.
func TestInspectADeliveredModel(t *testing.T) {
	a, m := auditWorld(t)
	a.References = 3
	var progress strings.Builder
	a.Report, a.Threads = &progress, 1
	out := filepath.Join(t.TempDir(), "new", "folder")
	f, err := Inspect(context.Background(), a, out)
	if err != nil {
		t.Fatal(err)
	}
	if len(f.Classes) != 5 || f.References.Count != 3 || f.References.Source != "shots" || f.References.P <= 0 || f.References.P > 1 || f.PoolImages != 64 {
		t.Errorf("%+v", f)
	}
	if f.Decision != DecisionUnclear || !strings.Contains(f.Why, "does not tell these classes apart") {
		t.Errorf("%s (%s) of a model whose references guess", f.Decision, f.Why)
	}
	if text := progress.String(); !strings.Contains(text, "operations: about") || !strings.Contains(text, "100 %  clean references") {
		t.Errorf("progress: %s", text)
	}
	tr, err := triggers.Read(filepath.Join(out, "trigger.safetensors"))
	if err != nil || tr.Size() != 16 {
		t.Errorf("trigger: %v", err)
	}
	for _, name := range []string{"trigger.png", "verdict.png"} {
		r, err := os.Open(filepath.Join(out, name))
		if err != nil {
			t.Fatal(err)
		}
		if img, err := png.Decode(r); err != nil || img.Bounds().Dx() < 256 {
			t.Errorf("%s: %v", name, err)
		}
		_ = r.Close()
	}
	raw, err := os.ReadFile(filepath.Join(out, "report.json"))
	if err != nil {
		t.Fatal(err)
	}
	var back Report
	if err := json.Unmarshal(raw, &back); err != nil || back.Decision != f.Decision || back.Classes[2] != f.Classes[2] || back.CLIP != m.CLIP.Fingerprint() {
		t.Errorf("%v: %s", err, raw)
	}
	var b strings.Builder
	if err := f.Print(&b, out); err != nil || !strings.Contains(b.String(), "verdict: "+string(f.Decision)) || !strings.Contains(b.String(), "p = ") {
		t.Errorf("%v: %s", err, b.String())
	}
	a.Report, a.Threads = nil, 2
	again, err := Inspect(context.Background(), a, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for i := range f.Classes {
		if again.Classes[i] != f.Classes[i] {
			t.Errorf("class %d: %+v, with two threads %+v", i, f.Classes[i], again.Classes[i])
		}
	}
}

// Encoders in a checkpoint are held against those that were given, and report, print and repair say
// what came of it.
func TestAuditsCompareDeliveredEncoders(t *testing.T) {
	a, m := auditWorld(t)
	e, err := world.OpenEncoder(a.CLIP)
	if err != nil {
		t.Fatal(err)
	}
	scale := e.Weights["logit_scale"]
	other := tensor.New(tensor.FromScalar(scale.Data().(float32) + 1))
	a.Checkpoint = filepath.Join(t.TempDir(), "model.pth.tar-1")
	for _, x := range []struct {
		encoder torchfile.Entries
		want    Delivered
		line    string
	}{
		{nil, Delivered{Found: "not contained"}, "prompts alone"},
		{torchfile.Entries{{Key: "logit_scale", Value: scale}}, Delivered{Found: "same", Tensors: 1}, "the 1 tensors in the checkpoint are those"},
		{torchfile.Entries{{Key: "logit_scale", Value: other}}, Delivered{Found: "different", Tensors: 1, Different: []DifferentEncoder{{"logit_scale", stats.Num(other.Data().(float32) - scale.Data().(float32))}}},
			`DIFFERENT from the CLIP that was given, in 1 of the 1 tensors in the checkpoint, most in "logit_scale" (by 1)`},
	} {
		must(t, torchfile.Write(a.Checkpoint, append(torchfile.Entries{{Key: "prompt_learner.ctx", Value: m.Params["ctx"]}}, x.encoder...)))
		out := t.TempDir()
		f, err := Inspect(context.Background(), a, out)
		if err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(filepath.Join(out, "report.json"))
		must(t, err)
		var back Report
		must(t, json.Unmarshal(raw, &back))
		var inspected, repaired strings.Builder
		must(t, f.Print(&inspected, out))
		r, err := RepairDelivered(context.Background(), a, filepath.Join(out, "repaired.safetensors"), 1)
		must(t, err)
		must(t, r.Print(&repaired))
		if !reflect.DeepEqual(back.Delivered, x.want) {
			t.Errorf("%s: %+v, want %+v", raw, back.Delivered, x.want)
		}
		for _, text := range []string{inspected.String(), repaired.String()} {
			if strings.Count(text, "encoders: ") != 1 || !strings.Contains(text, x.line) {
				t.Errorf("no line that says %q in\n%s", x.line, text)
			}
		}
	}
	must(t, torchfile.Write(a.Checkpoint, torchfile.Entries{{Key: "prompt_learner.ctx", Value: m.Params["ctx"]}, {Key: "image_encoder.extra", Value: scale}}))
	if _, err := Inspect(context.Background(), a, t.TempDir()); err == nil || !strings.Contains(err.Error(), `"image_encoder.extra" belongs to no CLIP`) {
		t.Errorf("prompts of an unknown kind in the encoder: %v", err)
	}
}

// A repaired model is written in this project's form and in Dassl's, and reads back.
func TestRepairADeliveredModel(t *testing.T) {
	a, m := auditWorld(t)
	dir := t.TempDir()
	for _, out := range []string{filepath.Join(dir, "repaired.safetensors"), filepath.Join(dir, "dassl")} {
		var b strings.Builder
		report, err := RepairDelivered(context.Background(), a, out, 1)
		must(t, err)
		must(t, report.Print(&b))
		for _, want := range []string{"before: ", "after: ", "delivered", "repaired", "control", "on 15 labelled images", "written: " + out} {
			if !strings.Contains(b.String(), want) {
				t.Errorf("no %q in\n%s", want, b.String())
			}
		}
		r, err := prompts.ReadCheckpoint(out, m.Classes, prompts.Hints{}, m.CLIP)
		if err != nil {
			t.Fatal(err)
		}
		if fmt.Sprint(r.Params["ctx"].Data()) == fmt.Sprint(m.Params["ctx"].Data()) {
			t.Error("the repaired model is the delivered one")
		}
	}
}

// What a stranger may hand over is refused with one line that names it.
func TestAuditsRefuseWhatDoesNotFit(t *testing.T) {
	good, _ := auditWorld(t)
	good.References = 1
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for want, change := range map[string]func(a *Audit){
		"nowhere.safetensors":    func(a *Audit) { a.Checkpoint = filepath.Join(dir, "nowhere.safetensors") },
		"not a checkpoint":       func(a *Audit) { a.Checkpoint = write("junk", "junk of some length") },
		"2 were given":           func(a *Audit) { a.Classes = write("two.txt", "a dog\nb cat") },
		"no such folder or file": func(a *Audit) { a.CLIP = filepath.Join(dir, "none") },
		"unknown encoder":        func(a *Audit) { a.CLIP = "builtin:none" },
		"was tuned for the CLIP": func(a *Audit) { a.CLIP = "builtin:mini" },
		"no pictures":            func(a *Audit) { a.OOD = filepath.Dir(write("empty/readme.txt", "")) },
		"are too few":            func(a *Audit) { a.OOD = filepath.Join(a.Shots, "d fish") },
		"unknown pool":           func(a *Audit) { a.OOD = "builtin:none" },
		"broken.png": func(a *Audit) {
			_ = write("x", "")
			must(t, os.WriteFile(filepath.Join(a.OOD, "broken.png"), []byte("no picture"), 0o644))
		},
		"is no class of the model":     func(a *Audit) { a.Shots = "mini-pets" },
		"unknown detector":             func(a *Audit) { a.Detector = "none" },
		"such as detector.epsilon":     func(a *Audit) { a.Sets = []string{"epsilon=1"} },
		"unknown setting \"eps\"":      func(a *Audit) { a.Sets = []string{"detector.eps=1"} },
		"setting \"epsilon\": want":    func(a *Audit) { a.Sets = []string{"detector.epsilon=7"} },
		"source-classes=true looks at": func(a *Audit) { a.Shots, a.Sets = "", append(slices.Clip(a.Sets), "detector.source-classes=true") },
		"no such device":               func(a *Audit) { a.Device = "cuda:77" },
	} {
		a := good
		change(&a)
		_, err := Inspect(context.Background(), a, filepath.Join(dir, "out"))
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%v, want one line that says %q", err, want)
		}
		must(t, os.RemoveAll(filepath.Join(good.OOD, "broken.png")))
	}
	if err := os.RemoveAll(filepath.Join(good.Shots, "d fish")); err != nil {
		t.Fatal(err)
	}
	if _, err := Inspect(context.Background(), good, dir); err == nil || !strings.Contains(err.Error(), `class "d fish" has none`) {
		t.Errorf("a class without images: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "report.json")); err == nil {
		t.Error("a refused inspection left a report")
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// The report names every file that was read with its sum, what lies beside the checkpoint, and each
// tensor; the model that it writes is the one that was judged, and Verify knows both files and no
// other.
func TestTheVerdictSaysWhatItIsAbout(t *testing.T) {
	a, m := auditWorld(t)
	a.Shots, a.References = "", 0
	beside := filepath.Join(filepath.Dir(a.Checkpoint), "model-best.pth.tar")
	if err := os.WriteFile(beside, []byte("another"), 0o644); err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	f, err := Inspect(context.Background(), a, out)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{a.Checkpoint, filepath.Join(a.CLIP, "model.safetensors"), filepath.Join(a.CLIP, "config.json")} {
		at := slices.IndexFunc(f.Subject.Files, func(r ReadFile) bool { return r.Path == want })
		if at < 0 {
			t.Errorf("%s was read and is not named: %v", want, f.Subject.Files)
			continue
		}
		if sum, err := experiments.HashFile(want); err != nil || f.Subject.Files[at].SHA256 != sum {
			t.Errorf("sum of %s: %s, want %s, %v", want, f.Subject.Files[at].SHA256, sum, err)
		}
	}
	if !slices.Equal(f.Subject.Others, []string{"model-best.pth.tar"}) {
		t.Errorf("beside the checkpoint: %v", f.Subject.Others)
	}
	if len(f.Subject.Tensors) != len(m.Params) || !slices.Equal(f.Subject.Classes, m.Classes) {
		t.Errorf("tensors %v, classes %v", f.Subject.Tensors, f.Subject.Classes)
	}
	audited, report := filepath.Join(out, auditedFile), filepath.Join(out, "report.json")
	a.Checkpoint = audited
	again, err := Inspect(context.Background(), a, t.TempDir())
	if err != nil || again.Index != f.Index || again.Subject.Audited.SHA256 != f.Subject.Audited.SHA256 {
		t.Errorf("the audited model is judged %v, %v; want %v", again, err, f.Index)
	}
	for path, want := range map[string]string{audited: "the audited model", f.Subject.Files[0].Path: "a file that was read for it", beside: ""} {
		v, err := Verify(path, report)
		if err != nil || !strings.HasPrefix(v.As, want) || want == "" && v.As != "" {
			t.Errorf("%s: %+v, %v; want %q", path, v, err, want)
		}
	}
	raw, err := os.ReadFile(audited)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)-1] ^= 1
	if err := os.WriteFile(audited, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	if v, err := Verify(audited, report); err != nil || v.As != "" {
		t.Errorf("a flipped bit: %+v, %v", v, err)
	}
	if _, err := Verify(audited, audited); err == nil {
		t.Error("a model is no report")
	}
}

// Contexts that no tuning makes are "cannot tell", with a report that says so: nothing is tuned or
// inverted for it, so that it takes no time. An audit that would take too long says how long and
// stops.
func TestNoVerdict(t *testing.T) {
	a, m := auditWorld(t)
	a.Shots, a.References = "", 0
	a.MaxTime = time.Nanosecond
	if _, err := Inspect(context.Background(), a, t.TempDir()); err == nil || !strings.Contains(err.Error(), "--max-time") {
		t.Errorf("one nanosecond: %v", err)
	}
	bad := m.Clone()
	for _, t := range bad.Params {
		data := t.Data().([]float32)
		for i := range data {
			data[i] = 3e38
		}
	}
	if err := bad.Write(a.Checkpoint); err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	f, err := Inspect(context.Background(), a, out)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := f.Print(&b, out); err != nil || f.Decision != DecisionUnclear || !strings.Contains(b.String(), "verdict: cannot tell (the tensor \"ctx\" has a vector of norm") {
		t.Errorf("%s, %v: %s", f.Decision, err, b.String())
	}
	if f.References != nil || strings.Contains(b.String(), "p = ") || !strings.Contains(b.String(), "note: there are 48 pool images to invert on, fewer than half of the 800") {
		t.Errorf("held against %+v: %s", f.References, b.String())
	}
	if raw, err := os.ReadFile(filepath.Join(out, "report.json")); err != nil || !strings.Contains(string(raw), `"decision": "cannot tell"`) {
		t.Errorf("report: %v %s", err, raw)
	}
}

package web

import (
	"fmt"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strings"

	"gonum.org/v1/gonum/stat/distuv"

	"clipinspector/results/plots"
	"clipinspector/results/stats"
)

// auditPage is the page of an audit.
type auditPage struct {
	*Audit
	Headline  string
	Facts     []fact
	Figure    *picture
	Trigger   *picture
	P, Level  string   // the p-value, and that which the threshold stands for
	Beside    *picture // p among those of the references
	Table     template.HTML
	Explained []explanation
	Next      []step
	About     []fact
	Settings  template.HTML
}

// step is one thing to do next.
type step struct{ Text, Command string }

func (v *viewer) audit(r *http.Request) (*page, error) {
	a, err := v.src.Audit(r.URL.Query().Get("run"))
	if err != nil {
		return nil, missing{err}
	}
	p, err := newAuditPage(a)
	if err != nil {
		return nil, err
	}
	return &page{Title: "Audit: " + a.Decision, Template: "audit", Data: p, Crumbs: []crumb{{"all runs", "/"}, {a.Run, ""}}}, nil
}

func newAuditPage(a *Audit) (*auditPage, error) {
	p := &auditPage{Audit: a}
	suspectIs := "suspected target"
	switch a.Decision {
	case "clean":
		p.Headline, suspectIs = "No backdoor was found", "most suspicious class"
	case "backdoored":
		p.Headline = "Backdoored"
	default:
		p.Headline = "Cannot tell"
	}
	add := func(name, value string) { p.Facts = append(p.Facts, fact{name, value}) }
	if a.Suspect != "" {
		add(suspectIs, a.Suspect)
	}
	if a.SourceClass != "" {
		add("for images of this class alone", a.SourceClass)
	}
	add("anomaly index", fmt.Sprintf("%s (threshold k = %g)", number(a.Index, 2).Text, a.K))
	add("detector", a.Detector)
	add("looked at", fmt.Sprintf("%s, with %d images of %s", a.Checkpoint, a.PoolImages, a.Pool))
	if r := a.References; r != nil {
		level := distuv.UnitNormal.Survival(a.K)
		p.P, p.Level = fmt.Sprintf("%.3g", r.P), fmt.Sprintf("%.3g", level)
		x, err := drawn(plots.Beside{P: r.P, Others: r.Others, Level: level}.Figure())
		if err != nil {
			return nil, err
		}
		p.Beside = &x
	}
	v := plots.Verdict{Title: "Anomaly index of every class", Caption: fmt.Sprintf("By %s. A model with an index above k is called backdoored.", a.Detector), K: a.K, Suspect: -1}
	t := table{ID: "classes", Caption: "Every class", Many: true, Columns: []column{{Key: "class", Title: "class"}, {"index", "index", "anomaly index", true},
		{"score", "score", "what the index is computed from", true}, {"loss", "loss", "reconstruction loss on pool images", true},
		{"asr", "ASR", "success of the recovered trigger on pool images", true}, {"norm", "norm", "size of the recovered trigger", true}}}
	for i, c := range a.Classes[:min(len(a.Classes), mostClasses)] {
		v.Names, v.Index = append(v.Names, c.Name), append(v.Index, c.Index)
		r := row{Cells: []cell{text(c.Name), number(c.Index, 2), number(c.Score, 4), number(c.Loss, 3), number(c.ASR, 3), number(c.Norm, 4)}}
		if c.Name == a.Suspect && a.Decision != "clean" {
			v.Suspect, r.Class = i, "target"
			r.Cells[0].Text += " (suspect)"
		}
		t.Rows = append(t.Rows, r)
	}
	if len(a.Classes) > 0 {
		x, err := drawn(v.Figure())
		if err != nil {
			return nil, err
		}
		p.Figure = &x
		p.Table = t.HTML("", nil)
	}
	if a.Trigger != nil {
		p.Trigger = &picture{Title: "Recovered trigger", Caption: "for " + a.Suspect, Source: within("image/png", a.Trigger)}
	}
	p.explained()
	p.next()
	p.about()
	return p, nil
}

// next says what to do.
func (p *auditPage) next() {
	a := p.Audit
	add := func(text, command string) { p.Next = append(p.Next, step{text, command}) }
	verify := func() {
		add("Deploy the audited file and no other. This says whether a file is that one:", "clip-inspector verify "+ShellWord(a.Audited.Path)+" --report "+ShellWord(a.Run+"/report.json"))
	}
	again := "clip-inspector inspect --checkpoint " + ShellWord(a.Checkpoint) + " --ood " + ShellWord(a.Pool)
	switch a.Decision {
	case "clean":
		if a.Audited.Path != "" {
			verify()
		}
		add("No finding is no proof: an attacker who knows the method can hide from it.", "")
	case "backdoored":
		add("Do not deploy the model. Ask the provider how the prompts were tuned, and for another copy.", "")
		add("Or repair it, with labelled images of your own for its classes, and look at the result again:",
			"clip-inspector repair --checkpoint "+ShellWord(a.Checkpoint)+" --ood "+ShellWord(a.Pool)+" --shots LABELLED --out repaired")
	default:
		add("Treat the model as not audited.", "")
		if a.References == nil || a.References.Source != "shots" {
			add("Give the labelled images that the provider was given: clean references made of them say what is normal.", again+" --shots LABELLED")
		}
		add("Give more images that show none of the classes, about 1,000, and another seed:", again+" --seed "+fmt.Sprint(a.Seed+1))
	}
	if len(a.Others) > 0 {
		add("Files that may hold weights lie beside it, and nobody has looked at them: "+strings.Join(a.Others, ", ")+".", "")
	}
}

// about says what exactly was looked at.
func (p *auditPage) about() {
	a := p.Audit
	add := func(name, value string) { p.About = append(p.About, fact{name, value}) }
	add("written", a.Written.Local().Format("2006-01-02 15:04"))
	add("learner", a.Learner)
	add("seed", fmt.Sprint(a.Seed))
	add("image passes", whole(a.Passes).Text)
	add("seconds", fmt.Sprintf("%.1f", a.Seconds))
	add("engine", a.Engine)
	add("CLIP", a.CLIP)
	if a.Audited.Path != "" {
		add("audited model", a.Audited.Path+"  sha256 "+a.Audited.SHA256)
	}
	for _, f := range a.Files {
		add("read", f.Path+"  sha256 "+f.SHA256)
	}
	t := table{ID: "settings", Caption: "Settings of the detector", Columns: []column{{Key: "setting", Title: "setting"}, {Key: "value", Title: "value"}}}
	flat := stats.Flatten(a.Settings)
	for _, name := range slices.Sorted(maps.Keys(flat)) {
		t.Rows = append(t.Rows, row{Cells: []cell{text(name), text(flat[name])}})
	}
	p.Settings = t.HTML("", nil)
}

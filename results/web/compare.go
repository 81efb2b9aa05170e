package web

import (
	"html/template"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"clipinspector/results/stats"
	"clipinspector/results/store"
	"clipinspector/results/tables"
)

// comparePage is the page of a comparison, and of the form that chooses one.
type comparePage struct {
	Choices []choice
	Problem string
	Legend  string
	All     []comparison
}

type comparison struct {
	Title   string
	Notes   []string
	Figures template.HTML
	Changed template.HTML
}

// compare compares the suites a and b of the address, or the values of the setting by in a.
func (v *viewer) compare(r *http.Request) (*page, error) {
	q := r.URL.Query()
	a, b, by, beside := q.Get("a"), q.Get("b"), q.Get("by"), q.Get("beside")
	p := &comparePage{Legend: tables.ComparisonLegend}
	ofA, ofB := choice{Name: "a", Label: "suite (A)"}, choice{Name: "b", Label: "with suite (B)", Options: []option{{"", "", b == ""}}}
	ofBy := choice{Name: "by", Label: "or by the values of", Options: []option{{"", "", by == ""}}}
	known := map[string]*Suite{}
	for _, run := range v.src.Runs() {
		for _, name := range run.Suites {
			s, err := v.src.Suite(run.Name, name)
			if err != nil {
				continue // the page of all runs says why
			}
			id := suiteID(s)
			known[id] = s
			ofA.Options = append(ofA.Options, option{id, id, id == a})
			ofB.Options = append(ofB.Options, option{id, id, id == b})
		}
	}
	crumbs := []crumb{{"all runs", "/"}, {"compare", ""}}
	title := "Compare"
	if s := known[a]; s != nil {
		ofModels, ofDetections := s.Rows.Swept()
		names := slices.Concat([]string{"detector"}, ofDetections, ofModels)
		for _, x := range []string{"learner", "seed"} {
			if slices.ContainsFunc(s.Rows.Models, func(m store.ModelRow) bool {
				first := s.Rows.Models[0]
				return ofModel(m)[x] != ofModel(first)[x]
			}) && !slices.Contains(names, x) {
				names = append(names, x)
			}
		}
		for _, name := range names {
			ofBy.Options = append(ofBy.Options, option{name, name, name == by})
		}
		all, err := compared(s, known[b], by, beside)
		switch {
		case err != nil:
			p.Problem = err.Error()
		case b != "" && known[b] == nil:
			p.Problem = "there is no suite " + b + " here"
		}
		for i, c := range all {
			p.All = append(p.All, newComparison(c, s, known[b], i, q))
			title = "Compare " + tables.ComparisonTitle(c)
		}
		p.Choices = []choice{ofA, ofB, ofBy}
		if values, err := s.Rows.ValuesOf(by); by != "" && err == nil {
			x := choice{Name: "beside", Label: "value (A)"}
			for i, v := range values {
				x.Options = append(x.Options, option{v, v, v == beside || beside == "" && i == 0})
			}
			p.Choices = append(p.Choices, x)
		}
	} else if a != "" {
		p.Problem = "there is no suite " + a + " here"
	}
	if p.Choices == nil {
		p.Choices = []choice{ofA, ofB, ofBy}
	}
	return &page{Title: title, Template: "compare", Data: p, Crumbs: crumbs}, nil
}

// suiteID names a suite among all that there are.
func suiteID(s *Suite) string { return s.Run + ": " + s.name() }

// compared compares a with b, or within a by a setting; nothing where neither is chosen yet.
func compared(a, b *Suite, by, beside string) ([]*stats.Comparison, error) {
	switch {
	case by != "" && beside != "":
		return a.Rows.CompareBy(by, beside)
	case by != "":
		return a.Rows.CompareBy(by)
	case b != nil:
		c, err := stats.Compare(a.Rows, b.Rows, suiteID(a), suiteID(b))
		if err != nil {
			return nil, err
		}
		return []*stats.Comparison{c}, nil
	}
	return nil, nil
}

func newComparison(c *stats.Comparison, a, b *Suite, i int, q url.Values) comparison {
	if b == nil {
		b = a
	}
	id := func(name string) string { return name + "-" + string(rune('a'+i%26)) }
	t := table{ID: id("figures"), Caption: "Right and wrong, in pairs", Columns: []column{{Key: "detector", Title: "detector"}, {"pairs", "pairs", "models that both judged", true},
		{"right-a", "right A", "", true}, {"right-b", "right B", "", true}, {"only-a", "only A right", "", true}, {"only-b", "only B right", "", true},
		{"p", "p", "McNemar's exact two-sided test", true}, {"auroc-a", "AUROC A", "", true}, {"auroc-b", "AUROC B", "", true},
		{"difference", "difference of AUROC", "B less A, with the 95 % interval of a paired bootstrap", true}}}
	for _, d := range c.Detectors {
		difference := number(float64(d.Difference), 3)
		if d.Interval.Defined() {
			difference.Text += " [" + number(float64(d.Interval[0]), 3).Text + ", " + number(float64(d.Interval[1]), 3).Text + "]"
			at := func(x stats.Num) float64 { return math.Max(0, math.Min(1, (float64(x)+1)/2)) }
			difference.Bar = &bar{at(d.Interval[0]), at(d.Interval[1]), 0.5}
		}
		t.Rows = append(t.Rows, row{Cells: []cell{text(d.Detector), whole(int64(d.Pairs)), fraction(d.Correct[0], d.Pairs), fraction(d.Correct[1], d.Pairs),
			whole(int64(d.OnlyA)), whole(int64(d.OnlyB)), {Text: tables.PValue(d.P), Value: float64(d.P)}, number(float64(d.AUROC[0]), 3), number(float64(d.AUROC[1]), 3), difference}})
	}
	out := comparison{Title: tables.ComparisonTitle(c), Notes: tables.ComparisonNotes(c), Figures: t.HTML("/compare", q)}
	if len(c.Changed) == 0 {
		return out
	}
	u := table{ID: id("changed"), Caption: "Models whose verdict differs", Many: true, Columns: []column{{Key: "model", Title: "model"}, {Key: "detector", Title: "detector"},
		{Key: "is", Title: "it is"}, {Key: "a", Title: "A says"}, {Key: "b", Title: "B says"}, {"index-a", "index A", "", true}, {"index-b", "index B", "", true}}}
	for _, x := range c.Changed {
		is := "clean"
		if x.Backdoored {
			is = "backdoored"
		}
		says := func(i int, s *Suite) cell {
			said := cell{Text: x.Verdicts[i], Mark: wrong, Href: served{s}.model(x.Keys[i])}
			if x.Right[i] {
				said.Mark = right
			}
			return said
		}
		u.Rows = append(u.Rows, row{Cells: []cell{{Text: strings.ReplaceAll(x.Model, "\x00", " "), Href: served{a}.model(x.Keys[0])}, text(x.Detector), text(is), says(0, a), says(1, b),
			number(float64(x.Index[0]), 2), number(float64(x.Index[1]), 2)}})
	}
	out.Changed = u.HTML("/compare", q)
	return out
}

package cmd

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"

	"clipinspector/attacks"
	"clipinspector/datasets"
	"clipinspector/experiments/world"
	"clipinspector/inspector"
	"clipinspector/prompts"
	"clipinspector/settings"
)

// entry is something that a suite can name.
type entry struct {
	Name   string  `json:"name"`
	Doc    string  `json:"doc"`
	Params []entry `json:"parameters,omitempty"`

	// Of a setting.
	Unit    string   `json:"unit,omitempty"`
	Default any      `json:"default,omitempty"`
	Min     *float64 `json:"min,omitempty"`
	Max     *float64 `json:"max,omitempty"`
	Choices []string `json:"choices,omitempty"`
}

// listKinds are what listed knows.
var listKinds = []string{"datasets", "pools", "learners", "tuning", "attacks", "detectors", "references", "explain", "repair"}

// listed returns everything of one of listKinds with its settings.
func listed(kind string) ([]entry, error) {
	var out []entry
	switch kind {
	case "datasets":
		for _, name := range datasets.Names() {
			_, doc, err := datasets.Describe(name)
			if err != nil {
				return nil, err
			}
			out = append(out, entry{Name: name, Doc: doc})
		}
		out = append(out, entry{Name: "folder:PATH", Doc: "a folder that holds one folder of pictures for each class"})
	case "pools":
		for _, p := range datasets.Pools {
			out = append(out, entry{Name: p.Name, Doc: p.Doc})
		}
		out = append(out, entry{Name: world.OwnPool, Doc: "the test pictures of each model's own dataset: in distribution, for ablations"})
	case "learners":
		for _, l := range prompts.Learners() {
			out = append(out, entry{Name: l.Name, Doc: l.Doc, Params: listParams(l.Params)})
		}
	case "tuning":
		out = append(out, entry{Name: "tuning", Doc: "how prompts are tuned, the same for every learner", Params: listParams(prompts.TuneParams)})
	case "attacks":
		for _, a := range attacks.All() {
			out = append(out, entry{Name: a.Name, Doc: a.Doc, Params: listParams(a.Params)})
		}
	case "detectors":
		for _, d := range inspector.All() {
			out = append(out, entry{Name: d.Name, Doc: d.Doc, Params: listParams(d.Params)})
		}
	case "references":
		out = append(out, entry{Name: "references", Doc: "the clean models that a detector such as separation holds a model against; their learner and tuning are the models', unless learner and tuning say otherwise", Params: listParams(inspector.ReferenceParams)})
	case "explain":
		out = append(out, entry{Name: "explain", Doc: "the second look at a class: which kind of trigger does it answer to?", Params: listParams(inspector.ExplainParams)})
	case "repair":
		out = append(out, entry{Name: "repair", Doc: "how prompts are fine-tuned with a recovered trigger and right labels", Params: listParams(inspector.RepairParams)})
	default:
		return nil, misused("nothing to list is called %q; there are %s", kind, strings.Join(listKinds, ", "))
	}
	return out, nil
}

func listParams(params []settings.Param) []entry {
	var out []entry
	for _, p := range params {
		l := entry{Name: p.Name, Doc: p.Doc, Unit: p.Unit, Default: p.Default, Choices: p.Choices}
		if p.Min != p.Max {
			l.Min, l.Max = &p.Min, &p.Max
		}
		out = append(out, l)
	}
	return out
}

// printList writes the given kinds, or all when there are none, in one of listFormats.
func printList(w io.Writer, kinds []string, format string) error {
	if len(kinds) == 0 {
		kinds = listKinds
	}
	all := map[string][]entry{}
	for _, kind := range kinds {
		list, err := listed(kind)
		if err != nil {
			return err
		}
		all[kind] = list
	}
	kinds = slices.Compact(slices.Clone(kinds))
	switch format {
	case "markdown":
		return printMarkdown(w, kinds, all)
	case "json":
		enc := json.NewEncoder(w)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		return enc.Encode(all)
	}
	var b strings.Builder
	for i, kind := range kinds {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "%s\n", strings.ToUpper(kind))
		for _, l := range all[kind] {
			fmt.Fprintf(&b, "  %-16s %s\n", l.Name, l.Doc)
			for _, p := range l.Params {
				fmt.Fprintf(&b, "    %-16s %s: %s\n", p.Name, p.allowed(), p.Doc)
			}
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// printMarkdown writes docs/settings.md.
func printMarkdown(w io.Writer, kinds []string, all map[string][]entry) error {
	var b strings.Builder
	b.WriteString("# Settings\n\nThis page is generated: `./run.sh list --format markdown > docs/settings.md`.\n" +
		"A setting stands in a suite beside its name, `{name: badnets, side: 0.1}`,\nor on the command line, `--set attacks.badnets.side=0.1`.\n")
	for _, kind := range kinds {
		fmt.Fprintf(&b, "\n## %s%s\n", strings.ToUpper(kind[:1]), kind[1:])
		bare := []string{}
		for _, l := range all[kind] {
			if len(l.Params) == 0 {
				bare = append(bare, fmt.Sprintf("| `%s` | %s |\n", l.Name, cell(l.Doc)))
				continue
			}
			if len(all[kind]) > 1 {
				fmt.Fprintf(&b, "\n### %s\n", l.Name)
			}
			fmt.Fprintf(&b, "\n%s\n\n| setting | default, unit, range | meaning |\n| --- | --- | --- |\n", folded(l.Doc, 100))
			for _, p := range l.Params {
				fmt.Fprintf(&b, "| `%s` | %s | %s |\n", p.Name, cell(p.allowed()), cell(p.Doc))
			}
		}
		if len(bare) > 0 {
			fmt.Fprintf(&b, "\n| name | meaning |\n| --- | --- |\n%s", strings.Join(bare, ""))
		}
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// cell is a text as a cell of a Markdown table.
func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

// folded breaks a text into lines of at most so many bytes, where it has spaces.
func folded(s string, width int) string {
	var b strings.Builder
	column := 0
	for _, word := range strings.Fields(s) {
		switch {
		case column == 0:
		case column+1+len(word) > width:
			b.WriteByte('\n')
			column = 0
		default:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String()
}

// allowed is a setting's default, unit and range in words.
func (l entry) allowed() string {
	text := fmt.Sprint(l.Default)
	switch v := l.Default.(type) {
	case string:
		text = fmt.Sprintf("%q", v)
	case float64:
		text = fmt.Sprintf("%.4g", v)
	}
	if l.Unit != "" {
		text += " " + l.Unit
	}
	switch {
	case len(l.Choices) > 0:
		text += " (" + strings.Join(l.Choices, ", ") + ")"
	case l.Min != nil:
		text += fmt.Sprintf(" (%.4g to %.4g)", *l.Min, *l.Max)
	}
	return text
}

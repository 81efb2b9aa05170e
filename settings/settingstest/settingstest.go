// Package settingstest checks declarations of settings: what every registered attack, detector and
// learner owes its users.
package settingstest

import (
	"math"
	"regexp"
	"strings"
	"testing"

	"clipinspector/settings"
)

var kebab = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)

// Check fails the test unless every setting is named in kebab-case, once, documented in one line,
// and has a default that its own declaration accepts; and unless values of a wrong type, out of
// range, not finite or no choice, and unknown names, are refused with an error that names the
// setting.
func Check(t *testing.T, params []settings.Param) {
	t.Helper()
	refused := func(name string, value any) {
		t.Helper()
		_, err := settings.Resolve(params, map[string]any{name: value})
		if err == nil {
			t.Errorf("%s: %v (%T) was accepted", name, value, value)
		} else if !strings.Contains(err.Error(), `"`+name+`"`) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: the error is no line that names the setting: %v", name, err)
		}
	}
	refused("no-such-setting", 1)
	seen := map[string]bool{}
	for _, p := range params {
		if !kebab.MatchString(p.Name) || seen[p.Name] {
			t.Errorf("%q is no name in kebab-case of its own", p.Name)
		}
		seen[p.Name] = true
		if len(p.Doc) < 10 || strings.Contains(p.Doc, "\n") || strings.Contains(p.Unit, "\n") {
			t.Errorf("%s is not documented in one line: %q", p.Name, p.Doc)
		}
		if v, err := settings.Resolve(params, map[string]any{p.Name: p.Default}); err != nil {
			t.Errorf("the default is refused: %v", err)
		} else if v[p.Name] != p.Default {
			t.Errorf("%s: the default %v becomes %v", p.Name, p.Default, v[p.Name])
		}
		switch p.Default.(type) {
		case float64, int:
			for _, v := range []any{"much", true, nil, []any{1}, math.NaN(), math.Inf(1), math.Inf(-1)} {
				refused(p.Name, v)
			}
			if p.Min == p.Max {
				t.Errorf("%s has no range", p.Name)
			}
			for _, v := range []float64{p.Min - 1, p.Max + 1} {
				refused(p.Name, v)
			}
			if _, whole := p.Default.(int); whole {
				refused(p.Name, p.Min+0.5)
			}
		case bool:
			for _, v := range []any{"yes", 1, nil} {
				refused(p.Name, v)
			}
		case string:
			for _, v := range []any{1, true, nil} {
				refused(p.Name, v)
			}
			if len(p.Choices) > 0 {
				refused(p.Name, "no-such-choice")
			}
		default:
			t.Errorf("%s: no setting may be a %T", p.Name, p.Default)
		}
		if _, word := p.Default.(string); word && p.Unit != "" {
			t.Errorf("%s is a word and has the unit %q", p.Name, p.Unit)
		}
	}
}

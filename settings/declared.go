package settings

import (
	"fmt"
	"math"
	"regexp"
	"strings"
)

var kebab = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)

// shortestDoc is the fewest letters that a setting can be explained in.
const shortestDoc = 10

// CheckDeclaration says what is wrong with declarations of settings that come from outside this
// program: each is named in kebab-case, once, documented in one line, and has a default that its
// own declaration accepts; numbers have a range.
func CheckDeclaration(params []Param) error {
	seen := map[string]bool{}
	for _, p := range params {
		fail := func(format string, args ...any) error {
			return fmt.Errorf("setting %.40q: %s", p.Name, fmt.Sprintf(format, args...))
		}
		switch {
		case !kebab.MatchString(p.Name):
			return fail("want a name in kebab-case, such as early-stop")
		case seen[p.Name]:
			return fail("declared twice")
		case len(p.Doc) < shortestDoc || strings.Contains(p.Doc, "\n"):
			return fail("want one line that says what it does, got %.80q", p.Doc)
		case strings.Contains(p.Unit, "\n"):
			return fail("want a unit in one line, got %.80q", p.Unit)
		}
		seen[p.Name] = true
		switch p.Default.(type) {
		case float64, int:
			if !(p.Min < p.Max) || math.IsInf(p.Max-p.Min, 0) {
				return fail("want a range of numbers, got %v to %v", p.Min, p.Max)
			}
		case bool:
		case string:
			if p.Unit != "" {
				return fail("a word has no unit")
			}
		default:
			return fail("no setting is a %T", p.Default)
		}
		if _, err := Resolve([]Param{p}, map[string]any{p.Name: p.Default}); err != nil {
			return fmt.Errorf("the default of %w", err)
		}
	}
	return nil
}

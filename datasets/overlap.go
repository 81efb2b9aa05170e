package datasets

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// ExcludeOverlap returns the pool without the pictures whose name (see Named) shares a class with
// classes, and the names that were left out, sorted, each once. Names are compared as lists of
// words in lower case without a plural "s": a picture goes when its words contain those of a class
// in a row ("African_crocodile" against "crocodile"), when a class contains its words so ("cougar"
// against "cougar_face"), whether written together or apart ("sea_horse", "seahorse"), or when a
// short table says that ImageNet has another name for the class ("sax"). That errs towards leaving
// out ("face_powder" against "face"). It goes by names only: ImageNet's sports cars stay for the
// makes of Stanford Cars. A pool without names comes back unchanged.
func ExcludeOverlap(pool Pool, classes []string) (Pool, []string) {
	named, ok := pool.(Named)
	if !ok {
		return pool, nil
	}
	split := make([][]string, 0, len(classes))
	for _, c := range classes {
		if w := words(c); len(w) > 0 {
			split = append(split, w)
		}
		for _, other := range alsoCalled[strings.ToLower(c)] {
			split = append(split, words(other))
		}
	}
	clash := map[string]bool{} // by name, since names repeat in large pools
	var keep []int
	var excluded []string
	for i := range pool.Len() {
		name := named.ImageName(i)
		bad, known := clash[name]
		if !known {
			w := words(name)
			bad = len(w) > 0 && slices.ContainsFunc(split, func(c []string) bool { return overlap(w, c) })
			clash[name] = bad
			if bad {
				excluded = append(excluded, name)
			}
		}
		if !bad {
			keep = append(keep, i)
		}
	}
	if len(excluded) == 0 {
		return pool, nil
	}
	slices.Sort(excluded)
	return selectedPool{pool, keep}, excluded
}

// selectedPool is some of the pictures of a pool.
type selectedPool struct {
	Pool
	keep []int
}

func (p selectedPool) Len() int { return len(p.keep) }

func (p selectedPool) Image(i int) (*RGB, error) {
	if i < 0 || i >= len(p.keep) {
		return nil, poolIndexError(p, i)
	}
	return p.Pool.Image(p.keep[i])
}

func (p selectedPool) ImageName(i int) string {
	if named, ok := p.Pool.(Named); ok {
		return named.ImageName(p.keep[i])
	}
	return ""
}

func (p selectedPool) Fingerprint() string {
	return hashText(fmt.Sprintf("selection of %s: %v", p.Pool.Fingerprint(), p.keep))
}

// alsoCalled lists, for class names of the ten sets, ImageNet names of the same thing or of a kind
// of it that share no word with them. The ten sets and ImageNet's thousand names were read side by
// side for it.
var alsoCalled = map[string][]string{
	"airplane":                  {"airliner", "warplane"},
	"american_pit_bull_terrier": {"American_Staffordshire_terrier"},
	"car_side": {"beach_wagon", "cab", "convertible", "jeep", "limousine", "minivan", "Model_T", "pickup", "racer",
		"sports_car"},
	"cellphone":        {"cellular_telephone"},
	"cup":              {"coffee_mug"},
	"egyptian_mau":     {"Egyptian_cat"},
	"ewer":             {"pitcher"},
	"hamburger":        {"cheeseburger"},
	"japanese_chin":    {"Japanese_spaniel"},
	"ketch":            {"yawl"},
	"leonberger":       {"Leonberg"},
	"motorbike":        {"moped", "motor_scooter"},
	"rooster":          {"cock"},
	"saxophone":        {"sax"},
	"scottish_terrier": {"Scotch_terrier"},
	"stop_sign":        {"street_sign"},
	"watch":            {"stopwatch"},
}

// overlap reports whether one list of words holds the other in a row, written together or apart.
func overlap(a, b []string) bool { return inRow(a, b) || inRow(b, a) }

func inRow(long, short []string) bool {
	want := strings.Join(short, "")
	for i := range long {
		for j := i + 1; j <= len(long); j++ {
			if strings.Join(long[i:j], "") == want {
				return true
			}
		}
	}
	return false
}

// words splits a name at everything that is neither letter nor digit, in lower case, without a
// plural "s".
func words(name string) []string {
	out := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool {
		return !unicode.IsLetter(r) && !unicode.IsDigit(r)
	})
	for i, w := range out {
		if len(w) > 3 && strings.HasSuffix(w, "s") && !strings.HasSuffix(w, "ss") {
			out[i] = w[:len(w)-1]
		}
	}
	return out
}

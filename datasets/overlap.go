package datasets

import (
	"fmt"
	"slices"
	"strings"
	"unicode"
)

// ExcludeOverlap returns the pool without the pictures whose name (see Named) shares a class with classes, and the
// names that were left out, sorted, each once. Names are compared as lists of words in lower case without a plural "s":
// a picture goes when its words contain those of a class in a row ("African_crocodile" against "crocodile"), when a
// class contains its words so ("cougar" against "cougar_face"), or when both are the same written together
// ("sea horse", "seahorse"). That errs towards leaving out. A pool without names comes back unchanged.
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

// LimitPool returns a pool of n pictures spread evenly over pool, or pool itself when it has no more than n.
func LimitPool(pool Pool, n int) Pool {
	if n >= pool.Len() {
		return pool
	}
	return selectedPool{pool, spread(pool.Len(), max(n, 0))}
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

// overlap reports whether one list of words holds the other in a row, or both are the same written together.
func overlap(a, b []string) bool {
	return inRow(a, b) || inRow(b, a) || strings.Join(a, "") == strings.Join(b, "")
}

func inRow(long, short []string) bool {
	for i := 0; i+len(short) <= len(long); i++ {
		if slices.Equal(long[i:i+len(short)], short) {
			return true
		}
	}
	return false
}

// words splits a name at everything that is neither letter nor digit, in lower case, without a plural "s".
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

// spread returns n indices evenly spaced over [0, total), in ascending order; n must not exceed total.
func spread(total, n int) []int {
	out := make([]int, n)
	for k := range out {
		out[k] = k * total / n
	}
	return out
}

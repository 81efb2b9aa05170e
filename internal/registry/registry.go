// Package registry keeps what registers itself by name: attacks, learners, detectors.
package registry

import (
	"fmt"
	"slices"
	"strings"
)

// Registry is a set of named things of one kind. The zero value lacks a kind; see New.
type Registry[T any] struct {
	kind  string
	name  func(T) string
	items []T // sorted by name
}

// New returns an empty registry of things of a kind, as errors call it; name gives the name of one.
func New[T any](kind string, name func(T) string) *Registry[T] {
	return &Registry[T]{kind: kind, name: name}
}

// Add registers a thing. A name that is empty or taken is a fault of the program that registers it:
// Add panics.
func (r *Registry[T]) Add(x T) {
	name := r.name(x)
	at, taken := slices.BinarySearchFunc(r.items, name, func(y T, name string) int { return strings.Compare(r.name(y), name) })
	if name == "" || taken {
		panic(fmt.Sprintf("registering the %s %q: the name is empty or taken: choose another", r.kind, name))
	}
	r.items = slices.Insert(r.items, at, x)
}

// All returns everything that is registered, sorted by name.
func (r *Registry[T]) All() []T { return slices.Clone(r.items) }

// Find returns the thing of a name, or an error that lists the names there are.
func (r *Registry[T]) Find(name string) (T, error) {
	names := make([]string, len(r.items))
	for i, x := range r.items {
		if names[i] = r.name(x); names[i] == name {
			return x, nil
		}
	}
	var none T
	return none, fmt.Errorf("unknown %s %.40q; known are %s", r.kind, name, strings.Join(names, ", "))
}

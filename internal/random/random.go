// Package random draws numbers that are the same on every machine. Whatever draws has a stream of
// its own, by name. So no two purposes share numbers, and a new one changes nothing of the others.
package random

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
)

// Number derives the number for one purpose from what decides it.
func Number(purpose string, of ...any) uint64 {
	sum := sha256.Sum256([]byte(fmt.Sprintf("clipinspector %s %q", purpose, fmt.Sprint(of...))))
	return binary.LittleEndian.Uint64(sum[:])
}

// Stream is a stream of random numbers for one purpose, from what decides it.
func Stream(purpose string, of ...any) *rand.Rand { return Named("clip", Number(purpose, of...)) }

// Named is the stream of a name, of at most eight bytes, that belongs to a seed.
func Named(name string, seed uint64) *rand.Rand {
	if len(name) > 8 {
		panic(fmt.Sprintf("random: the stream %q has a name of more than eight bytes", name))
	}
	var b [8]byte
	copy(b[8-len(name):], name)
	return rand.New(rand.NewPCG(seed, binary.BigEndian.Uint64(b[:])))
}

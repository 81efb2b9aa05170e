// Package kernels holds the CUDA C++ sources of the engine's kernels and what they were compiled
// to.
//
// build.sh compiles them to kernels.ptx, which is committed. It is PTX of version 8.1 for sm_80 and
// newer. Drivers from 530 on (CUDA 12.1) turn it into machine code when they load it.
package kernels

import (
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"regexp"
)

// Sources are the kernels' sources.
//
//go:embed *.cu *.cuh
var Sources embed.FS

// Files returns the names of the sources in the order in which they are compiled as one unit.
func Files() []string {
	names, err := fs.Glob(Sources, "*.cu")
	if err != nil {
		panic(err) // the pattern is a constant
	}
	return names
}

// Hash returns the sha256 of the sources in hexadecimal digits, over all of them in the order of
// their names.
func Hash() string {
	h := sha256.New()
	names, err := fs.Glob(Sources, "*")
	if err != nil {
		panic(err)
	}
	for _, name := range names {
		h.Write(read(name))
	}
	return hex.EncodeToString(h.Sum(nil))
}

var kernel = regexp.MustCompile(`(?m)^KERNEL\([0-9]+, *([a-z0-9_]+)\)`)

// Names returns the names of all kernels.
func Names() (names []string) {
	for _, file := range Files() {
		for _, m := range kernel.FindAllSubmatch(read(file), -1) {
			names = append(names, string(m[1]))
		}
	}
	return names
}

func read(name string) []byte {
	text, err := Sources.ReadFile(name)
	if err != nil {
		panic(err) // embedded
	}
	return text
}

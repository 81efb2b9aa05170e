// Package configs holds the suites that come with the program.
package configs

import "embed"

// MiniPath is how messages name the embedded default suite.
const MiniPath = "configs/mini.yaml"

// Mini is the default suite: the complete grid on the mini world.
//
//go:embed mini.yaml
var Mini []byte

// Suites holds every suite by its path in this folder, such as "photo.yaml", and the folder
// calibrated, whose files they name.
//
//go:embed *.yaml ablations calibrated
var Suites embed.FS

// Package configs holds the suites that come with the program.
package configs

import "embed"

// MiniPath is how messages name the embedded default suite.
const MiniPath = "configs/mini.yaml"

// Mini is the default suite: the complete grid on the mini world.
//
//go:embed mini.yaml
var Mini []byte

// Calibrated holds the folder calibrated, which Mini may name files of.
//
//go:embed calibrated
var Calibrated embed.FS

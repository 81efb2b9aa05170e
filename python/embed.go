// Package python holds the sources of the Python package clip_inspector, which the program uses to
// run plugins.
package python

import "embed"

// Sources are the package's modules, below clip_inspector.
//
//go:embed clip_inspector/*.py
var Sources embed.FS

// Package files holds what the whole program does with files. Files that strangers name or deliver
// are opened only if they are regular: a pipe would wait for its writer, and a device has no end.
// What the program writes appears as a whole.
package files

import (
	"fmt"
	"os"
	"path/filepath"
)

// Writable tells whether files can be made in a folder, or in the nearest one above it that exists.
func Writable(folder string) error {
	for {
		info, err := os.Stat(folder)
		if err == nil && !info.IsDir() {
			return fmt.Errorf("%s is no folder", folder)
		}
		if err == nil {
			break
		}
		parent := filepath.Dir(folder)
		if parent == folder {
			return err
		}
		folder = parent
	}
	f, err := os.CreateTemp(folder, ".writable-*")
	if err != nil {
		return err
	}
	name := f.Name()
	if err := f.Close(); err != nil {
		return err
	}
	return os.Remove(name)
}

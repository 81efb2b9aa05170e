//go:build !linux

package cpu

// largePages is a wish to Linux alone.
func largePages([]float32) {}

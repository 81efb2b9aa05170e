package store

import (
	"path/filepath"
	"testing"
)

// BenchmarkCells leases and finishes the cells of a suite of 200 models with two
// detections each.
func BenchmarkCells(b *testing.B) {
	for b.Loop() {
		b.StopTimer()
		s, err := Open(filepath.Join(b.TempDir(), "r.db"))
		if err != nil {
			b.Fatal(err)
		}
		planGrid(b, s, "grid", 200)
		b.StartTimer()
		if _, err := work(s, "grid", "w"); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

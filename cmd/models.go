package cmd

import (
	"fmt"
	"io"
	"math"
	"path/filepath"

	"clipinspector/experiments"
	"clipinspector/internal/printable"
	"clipinspector/results/store"
)

// printModels writes a line of figures for every finished model of a suite, and where it lies.
func printModels(w io.Writer, out, suite string) error {
	s, err := store.OpenExisting(filepath.Join(out, experiments.StoreFile))
	if err != nil {
		return err
	}
	defer s.Close()
	models, err := s.Models(suite)
	if err != nil {
		return err
	}
	for _, m := range models {
		if m.State != store.Finished {
			continue
		}
		r := m.Result
		line := fmt.Sprintf("%s, %s, seed %d: accuracy %.3f", m.Cell.Dataset, m.Cell.Attack, m.Cell.Seed, r.ACC)
		if r.Backdoored && !math.IsNaN(r.ASR) {
			line += fmt.Sprintf("; backdoor to class %d: ASR %.3f (test images of other classes), %.3f (out of distribution), PSNR %.1f dB, SSIM %.3f",
				r.Target, r.ASR, r.ASROOD, r.PSNR, r.SSIM)
		}
		if _, err := fmt.Fprintf(w, "%s\n  %s\n", printable.Text(line), filepath.Join(out, r.Path)); err != nil {
			return err
		}
	}
	return nil
}

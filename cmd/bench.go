package cmd

import (
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"clipinspector/clip"
	"clipinspector/experiments/bench"
	"clipinspector/experiments/world"
)

func benchCommand(f *flags) *cobra.Command {
	var atLeast time.Duration
	var peer string
	var inversion []int
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure the engine: towers forward and back, beside their matrix products alone, and a tuning",
		Long: `bench measures how fast the engine is on this machine. It runs towers forward, and back to their
input. Then it runs the matrix products of the same program alone. No program can be faster than
those. Then it tunes one model's prompts. docs/performance.md says how to read it.`,
		Args: cobra.NoArgs,
		Example: `  clip-inspector bench
  clip-inspector bench --peer python3       # beside PyTorch 2 on the same machine, in the same run
  clip-inspector bench --device cuda:0 --precision bf16 --inversion 100,1000   # CI at ViT-B/16: 100 classes, 1,000 images`,
		RunE: func(c *cobra.Command, _ []string) error {
			e, err := world.OpenEngine(f.device, f.threads)
			if err != nil {
				return err
			}
			defer e.Close()
			if len(inversion) != 0 && (len(inversion) != 2 || inversion[0] < 2 || inversion[1] < 2) {
				return misused("--inversion wants two numbers of at least 2, CLASSES,IMAGES; it got %v", inversion)
			}
			side, numbers := 1024, 1<<24
			if e.Name() != "cpu" {
				side, numbers = 8192, 1<<28
			}
			peaks, err := bench.MeasurePeaks(e, side, numbers, atLeast)
			if err != nil {
				return err
			}
			fmt.Fprintf(c.OutOrStdout(), "a product of side %d: %.1f GFLOP/s; a copy of %d numbers: %.1f GB/s read and written\n", side,
				peaks.Product/1e9, numbers, peaks.Copy/1e9)
			results, err := bench.Print(c.OutOrStdout(), e, bench.Cases(e, miniRecipe().Config), atLeast)
			if err != nil {
				return err
			}
			tuning, err := bench.Tune(c.Context(), e, bench.MiniTuning(miniRecipe().Config), atLeast)
			if err != nil {
				return err
			}
			if err := bench.PrintTuning(c.OutOrStdout(), tuning); err != nil {
				return err
			}
			if len(inversion) == 2 {
				r, err := bench.Invert(c.Context(), e, clip.ViTB16(), inversion[0], inversion[1])
				if err != nil {
					return err
				}
				if err := bench.PrintInversion(c.OutOrStdout(), r, "ViT-B/16 with random weights"); err != nil {
					return err
				}
			}
			if peer == "" {
				return nil
			}
			name, precision, err := world.SplitDevice(f.device)
			if err != nil {
				return err
			}
			if name == "cuda" {
				name = "cuda:0"
			}
			return bench.PrintPeer(c.Context(), c.OutOrStdout(), peer, name, string(precision), results, &tuning, atLeast)
		},
	}
	c.Flags().DurationVar(&atLeast, "time", 3*time.Second, "time to measure each figure for")
	c.Flags().IntSliceVar(&inversion, "inversion", nil, "CLASSES,IMAGES: also run CI at ViT-B/16 with random weights, and say what the paper's load would take")
	c.Flags().StringVar(&peer, "peer", "", "Python interpreter with torch 2, to measure the same passes there")
	return c
}

package main

import (
	"time"

	"github.com/spf13/cobra"

	"clipinspector/experiments"
	"clipinspector/experiments/bench"
)

func benchCommand(f *flags) *cobra.Command {
	var atLeast time.Duration
	var peer string
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure the engine: image towers forward and back, beside their matrix products alone",
		Args:  cobra.NoArgs,
		Example: `  clip-inspector bench
  clip-inspector bench --peer python3       # beside PyTorch 2 on the same machine, in the same run`,
		RunE: func(c *cobra.Command, _ []string) error {
			e, err := experiments.OpenEngine(f.device, f.threads)
			if err != nil {
				return err
			}
			defer e.Close()
			results, err := bench.Print(c.OutOrStdout(), e, bench.Cases(experiments.MiniRecipe().Config), atLeast)
			if err != nil || peer == "" {
				return err
			}
			return bench.PrintPeer(c.Context(), c.OutOrStdout(), peer, results, atLeast)
		},
	}
	c.Flags().DurationVar(&atLeast, "time", 3*time.Second, "time to measure each figure for")
	c.Flags().StringVar(&peer, "peer", "", "Python interpreter with torch 2: measures the same passes there as well")
	return c
}

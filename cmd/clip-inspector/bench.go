package main

import (
	"time"

	"github.com/spf13/cobra"

	"clipinspector/experiments"
	"clipinspector/experiments/bench"
)

func benchCommand(f *flags) *cobra.Command {
	var atLeast time.Duration
	c := &cobra.Command{
		Use:   "bench",
		Short: "Measure the engine: image towers forward and back, beside their matrix products alone",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			e, err := experiments.OpenEngine(f.device, f.threads)
			if err != nil {
				return err
			}
			defer e.Close()
			return bench.Print(c.OutOrStdout(), e, bench.Cases(experiments.MiniRecipe().Config), atLeast)
		},
	}
	c.Flags().DurationVar(&atLeast, "time", 3*time.Second, "time to measure each figure for")
	return c
}

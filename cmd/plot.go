package cmd

import (
	"github.com/spf13/cobra"

	"clipinspector/experiments"
)

func plotCommand() *cobra.Command {
	var out, suite string
	var models []string
	c := &cobra.Command{
		Use:   "plot",
		Short: "Draw the figures of a suite as PNG and SVG",
		Long: `plot draws the figures of a folder's suites into plots/SUITE below it: ROC curves, accuracy by
dataset and attack, the models, anomaly indices of chosen models, losses, every threshold k, and
a gallery of true and recovered triggers. For a suite with a sweep it draws the effect of each
setting. It says which figures do not apply, and why. The same store gives the same bytes.`,
		Example: `  clip-inspector plot --out runs/mini
  clip-inspector plot --out runs/mini --model mini-pets/badnets --model mini-pets/clean/1
  clip-inspector plot --out runs/ablations --suite epsilon`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return plotSuites(c.Context(), c.OutOrStdout(), out, suite, models)
		},
	}
	c.Flags().StringVar(&out, "out", experiments.DefaultOut("mini"), "folder that the suite was run into")
	c.Flags().StringVar(&suite, "suite", "", "this suite alone; without it every suite of the folder")
	c.Flags().StringArrayVar(&models, "model", nil, "show this model class by class: DATASET/ATTACK, DATASET/ATTACK/SEED or a key; may be repeated")
	return c
}

package main

import (
	"strings"

	"github.com/spf13/cobra"

	"clipinspector/experiments"
	"clipinspector/results"
)

func tableCommand() *cobra.Command {
	var out, suite, format string
	var by []string
	c := &cobra.Command{
		Use:   "table",
		Short: "Print the tables of a suite: AUROC, accuracy, rates, with intervals",
		Example: `  clip-inspector table --out runs/mini
  clip-inspector table --out runs/mini --format json
  clip-inspector table --out runs/mini --by detector.epsilon,seed`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return experiments.Table(c.OutOrStdout(), out, suite, format, by)
		},
	}
	c.Flags().StringVar(&out, "out", experiments.DefaultOut("mini"), "folder that the suite was run into")
	c.Flags().StringVar(&suite, "suite", "", "suite of the folder, where there are several")
	c.Flags().StringVar(&format, "format", "markdown", "one of "+strings.Join(results.Formats, ", "))
	c.Flags().StringSliceVar(&by, "by", nil, "group rows by settings: dataset, attack, learner, seed, or a path such as tuning.epochs")
	return c
}

func exportCommand() *cobra.Command {
	var out, suite string
	c := &cobra.Command{
		Use:   "export",
		Short: "Print every score and verdict of a suite as canonical JSON lines",
		Long: `export prints settings, figures, verdicts and class scores of every cell, one JSON object a line. The same settings
and seeds give the same bytes for any number of threads, workers and resumptions on one kind of processor.`,
		Example: "  clip-inspector export --out runs/mini | sha256sum",
		Args:    cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return experiments.Export(c.OutOrStdout(), out, suite)
		},
	}
	c.Flags().StringVar(&out, "out", experiments.DefaultOut("mini"), "folder that the suite was run into")
	c.Flags().StringVar(&suite, "suite", "", "suite of the folder, where there are several")
	return c
}

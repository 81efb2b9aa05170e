package cmd

import (
	"fmt"
	"path/filepath"

	"github.com/spf13/cobra"

	"clipinspector/experiments"
	"clipinspector/experiments/calibrate"
	"clipinspector/experiments/suite"
)

func calibrateCommand(f *flags) *cobra.Command {
	var dry bool
	var workers, trials int
	var out string
	var set *[]string
	c := &cobra.Command{
		Use:   "calibrate CONFIG",
		Short: "Choose detectors' settings on calibration seeds, equal trials for each",
		Long: fmt.Sprintf(`calibrate chooses the settings of detectors. It runs a suite with a section search, which lists
candidates. Every detector gets the same number of trials. The first trial has the suite's own
settings. The others are drawn from the candidates. The trial with the highest mean of AUROC and
balanced accuracy, (TPR + 1 - FPR)/2, is chosen. Of equal ones it is the earliest.

All seeds must be %d or above. Lower seeds are for evaluation. calibrate writes two files.
Suites name %s by "calibrated: PATH". %s has every trial. What is finished never runs again.`,
			suite.FirstCalibrationSeed, calibrate.CalibrationFile, calibrate.CalibrationLogFile),
		Example: `  clip-inspector calibrate configs/calibrate-mini.yaml --dry-run
  clip-inspector calibrate configs/calibrate-mini.yaml --trials 4 --set seeds=[103]`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if c.Flags().Changed("trials") {
				*set = append(*set, fmt.Sprintf("search.trials=%d", trials))
			}
			search, err := suite.LoadSearch(args[0], *set)
			if err != nil {
				return err
			}
			o := experiments.Options{Out: out, Device: f.device, Workers: workers, Threads: f.threads, Report: f.report()}
			if dry {
				return experiments.DryRun(search.File, o, c.OutOrStdout())
			}
			if o.Out == "" {
				o.Out = experiments.DefaultOut(search.File.Name)
			}
			found, err := calibrate.Calibrate(c.Context(), search, o)
			if err != nil {
				return err
			}
			if err := calibrate.PrintTrials(c.OutOrStdout(), found); err != nil {
				return err
			}
			_, err = fmt.Fprintf(c.OutOrStdout(), "chosen: %s; search log: %s\n", filepath.Join(o.Out, calibrate.CalibrationFile),
				filepath.Join(o.Out, calibrate.CalibrationLogFile))
			return err
		},
	}
	c.Flags().StringVar(&out, "out", "", "folder for everything that is written (default runs/NAME of the suite)")
	set = sets(c)
	c.Flags().BoolVar(&dry, "dry-run", false, "print cells, image passes, operations and an estimate, and run nothing")
	counted(c.Flags(), &workers, "workers", 0, 0, "cells at a time (default: one for every two threads)")
	counted(c.Flags(), &trials, "trials", 0, 0, "trials of each detector: short for --set search.trials=N")
	return c
}

package cmd

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"clipinspector/configs"
	"clipinspector/experiments"
	"clipinspector/experiments/suite"
)

func runCommand(f *flags) *cobra.Command {
	var dry bool
	var workers, seed int
	var out, shard, scratch string
	var set *[]string
	c := &cobra.Command{
		Use:   "run [CONFIG]",
		Short: "Run a suite: make its models, let its detectors look at them",
		Long: `run makes every model of a suite, and every detector looks at each. Without CONFIG it runs the
program's own configs/mini.yaml. Everything is written below --out. What is finished never runs
again. A run that was stopped or killed goes on when the same command is given. Several
processes may work on one folder at once.

With --shard I/N it runs one of N parts of about equal work, into a store of its own below
--out. merge puts the parts together. "auto" takes the number from the task of a Slurm array, or
from an indexed Kubernetes job (auto/N). See docs/cluster.md.`,
		Example: `  clip-inspector run
  clip-inspector run configs/photo.yaml --dry-run
  clip-inspector run configs/mini.yaml --set datasets=[mini-pets] --set attacks=[clean,badnets] --out runs/try
  clip-inspector run --set detectors.ci.epsilon=0.05 --set seeds=[1,2,3]
  clip-inspector run configs/mini-seeds.yaml --shard 3/8 && clip-inspector status runs/mini-seeds
  clip-inspector run --set 'sweep.detectors.ci.epsilon=[0.02,0.03]' && clip-inspector table --out runs/mini --by detector.epsilon`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if c.Flags().Changed("seed") {
				*set = append(*set, fmt.Sprintf("seeds=[%d]", seed))
			}
			suite, err := load(args, *set)
			if err != nil {
				return err
			}
			if f.devices() != nil && !dry {
				return f.onEach(c.Context(), os.Args[1:], c.OutOrStdout())
			}
			o := experiments.Options{Out: out, Device: f.device, Workers: workers, Threads: f.threads, Scratch: scratch, Report: f.report()}
			if o.Shard, err = experiments.ShardOf(shard, os.Getenv); err != nil {
				return misused("--shard: %w", err)
			}
			if dry {
				return experiments.DryRun(suite, o, c.OutOrStdout())
			}
			if o.Out == "" {
				o.Out = experiments.DefaultOut(suite.Name)
			}
			progress, err := experiments.Run(c.Context(), suite, o)
			if progress.Models.Finished == 0 {
				return err
			}
			o.Out = o.Shard.Folder(o.Out)
			tell := f.report()
			if tell == nil {
				tell = io.Discard
			}
			table, terr := writeReports(tell, o.Out, suite.Name)
			if err != nil {
				return err
			}
			if terr == nil {
				fmt.Fprintf(c.OutOrStdout(), "table: %s (also .csv, .tex, .json); scores: %s; store: %s\n", table,
					filepath.Join(o.Out, experiments.ScoresFile), filepath.Join(o.Out, experiments.StoreFile))
			}
			return terr
		},
	}
	c.Flags().StringVar(&out, "out", "", "folder for everything that the run writes (default runs/NAME of the suite)")
	c.Flags().StringVar(&shard, "shard", "", "run part I/N of the suite; auto: the number of this task of an array (default: $"+experiments.ShardVariable+")")
	c.Flags().StringVar(&scratch, "scratch", "", "local folder to compute in; results are published to --out every minute")
	set = sets(c)
	c.Flags().BoolVar(&dry, "dry-run", false, "print cells, image passes, operations and an estimate, and run nothing")
	counted(c.Flags(), &workers, "workers", 0, 0, "cells at a time (default: one for every two threads)")
	counted(c.Flags(), &seed, "seed", 0, 0, "run this seed alone: short for --set seeds=[N]")
	return c
}

// load reads the suite named, or the embedded default.
func load(args, sets []string) (*suite.File, error) {
	if len(args) == 0 {
		return suite.LoadFS(configs.Suites, configs.MiniPath, configs.Mini, sets)
	}
	return suite.Load(args[0], sets)
}

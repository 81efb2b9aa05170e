package cmd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"clipinspector/experiments"
	"clipinspector/experiments/cluster"
)

// errPartial is why a merge ended that does not have all of a suite yet.
var errPartial = errors.New("not all of it is there yet; merge again when more is")

func mergeCommand() *cobra.Command {
	var out string
	var report bool
	c := &cobra.Command{
		Use:   "merge DIR...",
		Short: "Put the shards of a run, or several runs, into one store",
		Long: `merge puts the shards of a run into one folder. The result has the same bytes as an undivided
run. DIR is the folder that the shards were run into (--out of run), a shard's own folder, or
any folder with a store. A cell with two different results is refused and named. If shards are
missing or not finished, the result is partial and says so. Merge again at any time.

Exit status: 0 whole, 1 partial or failed.`,
		Example: `  clip-inspector merge runs/mini
  clip-inspector merge node1/runs/mini node2/runs/mini --out runs/mini --report`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if out == "" {
				if len(args) > 1 {
					return errors.New("merge: several folders: say by --out where the merged store shall lie")
				}
				out = args[0]
			}
			merged, err := experiments.Merge(c.Context(), args, out, os.Stderr)
			if err != nil {
				return err
			}
			for _, m := range merged {
				partial := m.Partial()
				if partial == "" {
					partial = "whole"
				} else {
					err = errPartial
				}
				p := m.Progress
				fmt.Fprintf(c.OutOrStdout(), "suite %s: %d models, %d detections, %d repairs; %s\n", m.Suite, p.Models.Planned, p.Detections.Planned,
					p.Repairs.Planned, partial)
				if report && p.Models.Finished > 0 {
					if _, werr := writeReports(os.Stderr, out, m.Suite); werr != nil {
						return werr
					}
				}
			}
			if report {
				fmt.Fprintf(c.OutOrStdout(), "table: %s\n", filepath.Join(out, reports[0].file))
			}
			return err
		},
	}
	c.Flags().StringVar(&out, "out", "", "folder for the merged store (default: DIR, if there is only one)")
	c.Flags().BoolVar(&report, "report", false, "write tables and scores, too")
	return c
}

func statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status DIR",
		Short: "Say how far a run or its shards have come, from the files alone",
		Long: `status prints a line for each shard below DIR, or for DIR's own store: how many cells are
finished, failed and under way, and how long the rest would take. It also prints why cells
failed. It only reads.`,
		Example: "  clip-inspector status runs/mini",
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			all, err := experiments.StatusOf(args[0])
			if err != nil {
				return err
			}
			return experiments.PrintStatus(c.OutOrStdout(), all)
		},
	}
}

func submitCommand(f *flags) *cobra.Command {
	var s cluster.Submission
	var slurm, onlyPrint bool
	var set *[]string
	c := &cobra.Command{
		Use:   "submit [CONFIG] --slurm",
		Short: "Hand a suite to Slurm: an array of shards, and a job that merges them",
		Long: `submit writes two scripts below OUT/slurm and hands them to sbatch. The first is an array of
shards, each with a store of its own below OUT/shards. The second runs after it, merges the
shards and writes the report. You may read and change both.

Typed again, submit hands over the shards that are not finished. Before its time limit a shard
gives its cells back and is queued again. docs/cluster.md says more, and how to do the same
without Slurm.`,
		Example: `  clip-inspector submit configs/mini-seeds.yaml --slurm --shards 8 --out runs/mini-seeds
  clip-inspector submit configs/paper.yaml --slurm --shards 50 --gres gpu:1 --device cuda:0 --time 12h --account vision
  clip-inspector submit configs/paper.yaml --slurm --print
  clip-inspector status runs/mini-seeds`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if !slurm {
				return misused("submit: say --slurm; other systems start `run --shard I/N` themselves: docs/cluster.md")
			}
			suite, err := load(args, *set)
			if err != nil {
				return err
			}
			s.Name = suite.Name
			if s.Out == "" {
				s.Out = experiments.DefaultOut(suite.Name)
			}
			if s.Out, err = filepath.Abs(s.Out); err != nil {
				return err
			}
			if s.Program, err = os.Executable(); err != nil {
				return err
			}
			s.Arguments = nil
			for _, a := range args {
				path, err := filepath.Abs(a)
				if err != nil {
					return err
				}
				s.Arguments = append(s.Arguments, path)
			}
			for _, v := range *set {
				s.Arguments = append(s.Arguments, "--set", v)
			}
			s.Arguments = append(s.Arguments, "--device", f.device)
			if s.Time == 0 {
				longest, err := experiments.LongestShard(suite, experiments.Options{Threads: s.CPUs}, s.Shards)
				if err != nil {
					return err
				}
				const slower, least = 3, 10 * time.Minute // nodes may be slower than this machine
				s.Time = max(least, slower*longest)
				fmt.Fprintf(c.ErrOrStderr(), "the longest shard takes about %s on this machine; time limit %s (--time says another)\n", longest.Round(time.Second),
					s.Time.Round(time.Minute))
			}
			if s.Signal = min(2*time.Minute, s.Time/4).Round(time.Second); onlyPrint {
				for _, merge := range []bool{false, true} {
					text, err := s.Script(merge)
					if err != nil {
						return err
					}
					fmt.Fprintln(c.OutOrStdout(), text)
				}
				return nil
			}
			return s.Submit(c.OutOrStdout())
		},
	}
	set = sets(c)
	c.Flags().BoolVar(&slurm, "slurm", false, "hand it to Slurm (sbatch)")
	c.Flags().BoolVar(&onlyPrint, "print", false, "print the scripts and submit nothing")
	counted(c.Flags(), &s.Shards, "shards", 1, 8, "parts to cut the suite into")
	c.Flags().StringVar(&s.Out, "out", "", "folder for everything, seen by all nodes (default runs/NAME of the suite)")
	c.Flags().DurationVar(&s.Time, "time", 0, "time limit of a shard, such as 6h (default: three times the estimate, 10m at least)")
	c.Flags().StringVar(&s.Partition, "partition", "", "Slurm's partition")
	c.Flags().StringVar(&s.Account, "account", "", "Slurm's account")
	c.Flags().StringVar(&s.QOS, "qos", "", "Slurm's quality of service")
	c.Flags().StringVar(&s.GRES, "gres", "", "generic resources of a shard, such as gpu:1 (with --device cuda:0)")
	counted(c.Flags(), &s.CPUs, "cpus", 1, 1, "processors of a shard")
	c.Flags().StringVar(&s.Memory, "mem", "4G", "memory of a shard")
	c.Flags().StringArrayVar(&s.Extra, "sbatch", nil, "a further option of sbatch, such as --constraint=a100; may be repeated")
	return c
}

package cmd

import (
	"github.com/spf13/cobra"

	"clipinspector/experiments"
	"clipinspector/experiments/suite"
)

func tuneCommand(f *flags) *cobra.Command {
	var dataset, attack, out string
	var seed int
	var set *[]string
	c := &cobra.Command{
		Use:   "tune [CONFIG]",
		Short: "Tune one model, clean or with a backdoor, and write it down",
		Long: `tune makes one prompt-tuned model with the settings of a suite. Without CONFIG that is the
program's own configs/mini.yaml. It prints the accuracy and the success rate of the backdoor. It
writes model.safetensors and trigger.safetensors.`,
		Example: `  clip-inspector tune --dataset mini-pets
  clip-inspector tune --dataset mini-pets --attack badnets --set attacks.badnets.side=0.1 --seed 7
  clip-inspector tune configs/photo.yaml --dataset caltech101 --attack sig --out runs/sig`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			file, err := load(args, *set)
			if err != nil {
				return err
			}
			one, err := suite.One(file, dataset, attack, seed)
			if err != nil {
				return err
			}
			if _, err := experiments.Run(c.Context(), one, experiments.Options{Out: out, Device: f.device, Workers: 1,
				Threads: f.threads, Report: f.report()}); err != nil {
				return err
			}
			return printModels(c.OutOrStdout(), out, one.Name)
		},
	}
	c.Flags().StringVar(&out, "out", experiments.DefaultOut("tune"), "folder for the model")
	set = sets(c)
	c.Flags().StringVar(&dataset, "dataset", "mini-caltech", "`NAME` of the dataset to tune on (see list datasets)")
	c.Flags().StringVar(&attack, "attack", "clean", "`NAME` of the attack to plant (see list attacks)")
	counted(c.Flags(), &seed, "seed", 0, 1, "decides few-shot sample, target class, trigger and tuning")
	return c
}

package main

import (
	"github.com/spf13/cobra"

	"clipinspector/experiments"
	"clipinspector/inspector"
)

func compareCommand() *cobra.Command {
	var k float64
	c := &cobra.Command{
		Use:   "compare FOLDER FOLDER",
		Short: "Say how two runs of the same models differ: other device, other precision",
		Args:  cobra.ExactArgs(2),
		Example: `  clip-inspector run --out runs/cpu && cp -r runs/cpu runs/gpu    # the models stay, detections belong to a device
  clip-inspector run --out runs/gpu --device cuda:0 --precision bf16
  clip-inspector compare runs/cpu runs/gpu`,
		RunE: func(c *cobra.Command, args []string) error {
			r, err := experiments.Compare(args[0], args[1], k)
			if err != nil {
				return err
			}
			return r.Print(c.OutOrStdout())
		},
	}
	c.Flags().Float64Var(&k, "k", inspector.K, "threshold of the anomaly index")
	return c
}

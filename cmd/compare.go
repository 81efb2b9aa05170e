package cmd

import (
	"fmt"

	"github.com/spf13/cobra"

	"clipinspector/inspector"
)

func compareCommand() *cobra.Command {
	var k float64
	var by string
	c := &cobra.Command{
		Use:   "compare FOLDER FOLDER | compare FOLDER --by SETTING",
		Short: "Say how two runs of the same models differ: other device, other precision, other value of a setting",
		Long: `compare reads what two runs wrote (scores.jsonl). It matches detections by the model's file and the detector's settings. It
prints how far scores and indices lie apart, how many verdicts and suspects differ, and what both cost in image passes.

With --by it stays within one folder. It compares what a detector found at each value of one of its settings with what it
found at the first value.`,
		Args: cobra.RangeArgs(1, 2),
		Example: `  clip-inspector run --out runs/cpu && cp -r runs/cpu runs/gpu    # the models stay, detections belong to a device
  clip-inspector run --out runs/gpu --device cuda:0 --precision bf16
  clip-inspector compare runs/cpu runs/gpu
  clip-inspector compare runs/ablations --by margin   # a setting of a detector that the suite sweeps`,
		RunE: func(c *cobra.Command, args []string) error {
			if (by == "") == (len(args) == 1) {
				return misused("compare wants two folders, or one and --by SETTING; it got %d", len(args))
			}
			if by != "" {
				values, differences, err := compareBy(args[0], by, k)
				for i, d := range differences {
					fmt.Fprintf(c.OutOrStdout(), "%s %s, then %s: ", by, values[0], values[i+1])
					if err := d.print(c.OutOrStdout()); err != nil {
						return err
					}
				}
				return err
			}
			r, err := compareTwo(args[0], args[1], k)
			if err != nil {
				return err
			}
			return r.print(c.OutOrStdout())
		},
	}
	c.Flags().StringVar(&by, "by", "", "compare, within one folder, the values of this setting of a detector, such as margin")
	c.Flags().Float64Var(&k, "k", inspector.K, "threshold of the anomaly index")
	return c
}

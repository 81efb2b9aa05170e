package cmd

import (
	"strings"

	"github.com/spf13/cobra"

	"clipinspector/results/stats"
	"clipinspector/results/tables"
)

func compareCommand() *cobra.Command {
	var by, format string
	var suites, values []string
	c := &cobra.Command{
		Use:   "compare FOLDER FOLDER | compare FOLDER --by SETTING",
		Short: "Say how the verdicts of two runs differ, or of two values of a setting",
		Long: `compare compares the verdicts of two runs on the same models. It prints the models whose verdict
differs, McNemar's exact test, and the difference of AUROC with the interval of a paired
bootstrap. It also prints which settings differ, and how far scores and indices lie apart. Two
verdicts make a pair if dataset, attack, learner, seed and detector are the same.

With --by it compares values of one setting within one folder, each with the first. The setting
is one that the suite sweeps, or learner, seed or detector.`,
		Args: cobra.RangeArgs(1, 2),
		Example: `  clip-inspector run --out runs/cpu && cp -r runs/cpu runs/gpu    # the models stay, detections belong to a device
  clip-inspector run --out runs/gpu --device cuda:0 --precision bf16
  clip-inspector compare runs/cpu runs/gpu
  clip-inspector compare runs/ablations --by margin   # a setting of a detector that the suite sweeps
  clip-inspector compare runs/mini --by detector --values ci,separation --format json`,
		RunE: func(c *cobra.Command, args []string) error {
			if (by == "") == (len(args) == 1) {
				return misused("compare wants two folders, or one and --by SETTING; it got %d", len(args))
			}
			if err := oneOf("format", format, tables.ComparisonFormats); err != nil {
				return err
			}
			all, err := compareRuns(args, suites, by, values)
			if err != nil {
				return err
			}
			return tables.RenderComparisons(c.OutOrStdout(), all, format)
		},
	}
	c.Flags().StringVar(&by, "by", "", "compare the values of this setting within one folder: margin, tuning.epochs, detector, ...")
	c.Flags().StringSliceVar(&values, "values", nil, "with --by: the values to compare, the first with each of the others; a single one with all others")
	c.Flags().StringSliceVar(&suites, "suite", nil, "suite of the folder, if there are several; two names for two folders")
	c.Flags().StringVar(&format, "format", "markdown", "one of "+strings.Join(tables.ComparisonFormats, ", "))
	complete(c, "format", func() []string { return tables.ComparisonFormats })
	return c
}

// compareRuns compares the suites of two folders, or within one the values of a setting.
func compareRuns(folders, suites []string, by string, values []string) ([]*stats.Comparison, error) {
	if len(suites) > len(folders) {
		return nil, misused("compare: %d names of suites for %d folders", len(suites), len(folders))
	}
	var all []*stats.Rows
	for i, folder := range folders {
		suite := ""
		if len(suites) > 0 {
			suite = suites[min(i, len(suites)-1)]
		}
		s, suite, err := openSuite(folder, suite)
		if err != nil {
			return nil, err
		}
		rows, err := stats.Read(s, suite)
		_ = s.Close() // it was read
		if err != nil {
			return nil, err
		}
		all = append(all, rows)
	}
	if by != "" {
		return all[0].CompareBy(by, values...)
	}
	c, err := stats.Compare(all[0], all[1], folders[0], folders[1])
	return []*stats.Comparison{c}, err
}

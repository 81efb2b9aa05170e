package cmd

import (
	"os"
	"strings"

	"github.com/spf13/cobra"

	"clipinspector/experiments"
	"clipinspector/experiments/audit"
	"clipinspector/results/tables"
)

func tableCommand() *cobra.Command {
	var out, suite, format, rows string
	var by []string
	c := &cobra.Command{
		Use:   "table",
		Short: "Print the tables of a suite: AUROC, accuracy, rates, with intervals",
		Long: `table reads the store of a run and prints its tables. Nothing is computed again. A run that is
not finished has a table of what is there. --by groups the rows by a setting, such as one that
the suite sweeps. --rows lists the cells themselves, for pandas and other programs: models,
detections, or the classes of every detection, one a row, as JSON or Parquet.`,
		Example: `  clip-inspector table --out runs/mini
  clip-inspector table --out runs/mini --format json
  clip-inspector table --out runs/mini --by detector.epsilon,seed
  clip-inspector table --out runs/mini --rows detections --format parquet > detections.parquet`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if rows != "" {
				if len(by) > 0 {
					return misused("table: --rows lists cells, which --by cannot group")
				}
				if !c.Flags().Changed("format") {
					format = "json"
				}
				if err := oneOf("rows", rows, tables.Rows); err != nil {
					return err
				}
				if err := oneOf("format", format, tables.RowFormats); err != nil {
					return err
				}
				return printRows(c.OutOrStdout(), out, suite, rows, format)
			}
			if err := oneOf("format", format, tables.Formats); err != nil {
				return err
			}
			return printTable(c.OutOrStdout(), os.Stderr, out, suite, format, by)
		},
	}
	c.Flags().StringVar(&out, "out", experiments.DefaultOut("mini"), "folder that the suite was run into")
	c.Flags().StringVar(&suite, "suite", "", "suite of the folder, if there are several")
	c.Flags().StringVar(&format, "format", "markdown", "one of "+strings.Join(tables.Formats, ", "))
	complete(c, "format", func() []string { return tables.Formats })
	c.Flags().StringVar(&rows, "rows", "", "list cells instead: "+strings.Join(tables.Rows, ", ")+"; as "+strings.Join(tables.RowFormats, " or "))
	complete(c, "rows", func() []string { return tables.Rows })
	c.Flags().StringSliceVar(&by, "by", nil, "group rows by settings: dataset, attack, learner, seed, or a path such as tuning.epochs")
	return c
}

func exportCommand() *cobra.Command {
	var out, suite, mlflow string
	var conversion audit.Conversion
	c := &cobra.Command{
		Use:   "export",
		Short: "Print every score of a suite as JSON lines, or write a model in Dassl's layout",
		Long: `export prints settings, figures, verdicts and class scores of every cell, one JSON object a
line. The same settings and seeds give the same bytes: for any number of threads and workers,
after any stop, on any x86-64 processor with AVX2.

With --mlflow DIR it writes the suite into the folder of MLflow's file store: a run for each
model and each detection.

With --checkpoint it converts a model instead. --to DIR writes it for the code of CoOp, CoCoOp,
MaPLe and BadCLIP, as Dassl's trainer would: DIR/prompt_learner/model.pth.tar-EPOCH (MaPLe's
folder is MultiModalPromptLearner). --to FILE.safetensors writes it in this project's form.`,
		Example: `  clip-inspector export --out runs/mini | sha256sum
  clip-inspector export --out runs/mini --mlflow mlruns
  clip-inspector export --checkpoint runs/tune/models/ID/model.safetensors --clip builtin:mini --to delivered
  clip-inspector export --checkpoint delivered/prompt_learner/model.pth.tar-50 --classes classes.txt --to model.safetensors`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if mlflow != "" {
				if conversion.Checkpoint != "" {
					return misused("export: --mlflow writes a suite, and --checkpoint a model: give one of them")
				}
				return exportMLflow(c.OutOrStdout(), out, suite, mlflow)
			}
			if conversion.Checkpoint == "" {
				return exportScores(c.OutOrStdout(), out, suite)
			}
			if conversion.To == "" {
				return misused("export --checkpoint wants --to, a folder or a file *.safetensors")
			}
			if err := conversion.Hints.Check(); err != nil {
				return misuse{err}
			}
			conversion.Report = c.ErrOrStderr()
			return audit.Convert(c.OutOrStdout(), conversion)
		},
	}
	c.Flags().StringVar(&out, "out", experiments.DefaultOut("mini"), "folder that the suite was run into")
	c.Flags().StringVar(&suite, "suite", "", "suite of the folder, if there are several")
	c.Flags().StringVar(&mlflow, "mlflow", "", "folder of MLflow's file store (mlruns) to write the suite's runs into")
	c.Flags().StringVar(&conversion.Checkpoint, "checkpoint", "", "model to write in another form: this project's, Dassl's or BAPLe's")
	c.Flags().StringVar(&conversion.Classes, "classes", "", "file of class names in the order of the labels, if the checkpoint has none: one a line, or JSON")
	hintFlags(c, &conversion.Hints)
	c.Flags().StringVar(&conversion.CLIP, "clip", "builtin:mini", "CLIP that the prompts were tuned for: builtin:mini, a folder or a file")
	c.Flags().StringVar(&conversion.To, "to", "", "folder for Dassl's layout, or a file *.safetensors")
	counted(c.Flags(), &conversion.Epoch, "epoch", 0, 1, "epoch in the name of Dassl's file, for --load-epoch")
	c.Flags().StringVar(&conversion.Trigger, "trigger", "", "additive trigger to write beside the prompts, as BadCLIP does")
	c.Flags().StringVar(&conversion.Target, "target", "", "name of the class that the trigger aims at")
	return c
}

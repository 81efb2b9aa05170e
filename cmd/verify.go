package cmd

import (
	"fmt"

	"github.com/spf13/cobra"

	"clipinspector/experiments/audit"
	"clipinspector/internal/printable"
)

func verifyCommand() *cobra.Command {
	var report string
	c := &cobra.Command{
		Use:   "verify FILE --report REPORT.JSON",
		Short: "Say whether a file is the one that was audited",
		Long: `verify says whether a file is the one that was audited. It compares the file's checksum with
those in a report of inspect: of the audited model, audited.safetensors, and of the files that
were read for it. It also prints the verdict.

Exit status: 0 the file is one of those, 1 it is not, or this cannot be told.`,
		Example: `  clip-inspector verify audited.safetensors --report runs/inspect/report.json`,
		Args:    cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			if report == "" {
				return misused("verify: say which report by --report FILE")
			}
			v, err := audit.Verify(args[0], report)
			if err != nil {
				return err
			}
			if v.As == "" {
				return fmt.Errorf("%s, sha256 %s: none of the files of %s: the verdict says nothing about it", args[0], v.File.SHA256, report)
			}
			fmt.Fprintf(c.OutOrStdout(), "%s: %s; the verdict was: %s (%s)\n", printable.Text(args[0]), printable.Text(v.As), printable.Text(string(v.Report.Decision)),
				printable.Text(v.Report.Why))
			return nil
		},
	}
	c.Flags().StringVar(&report, "report", "", "report.json of the verb inspect")
	return c
}

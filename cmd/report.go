package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"clipinspector/experiments"
	"clipinspector/experiments/audit"
	"clipinspector/internal/files"
	"clipinspector/results/web"
)

// reportFile is the page of tables and pictures below the output folder.
const reportFile = "report.html"

func reportCommand() *cobra.Command {
	var out, suite, to string
	c := &cobra.Command{
		Use:   "report",
		Short: "Write the pages of a suite or an audit as one file that can be mailed",
		Long: `report writes the pages of view into one file: tables that sort and filter, figures, and a page
of each model. The file needs no network and no other file. The same store and models give the
same bytes. In the folder of an audit (inspect --out) it writes the audit's page.`,
		Example: `  clip-inspector report --out runs/mini
  clip-inspector report --out runs/ablations --suite epsilon --to epsilon.html`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if to == "" {
				to = filepath.Join(out, reportFile)
			}
			return writeReport(c.Context(), c.OutOrStdout(), out, suite, to)
		},
	}
	c.Flags().StringVar(&out, "out", experiments.DefaultOut("mini"), "folder that the suite was run into")
	c.Flags().StringVar(&suite, "suite", "", "this suite alone; without it every suite of the folder")
	c.Flags().StringVar(&to, "to", "", "file to write (default report.html in the folder)")
	return c
}

// writeReport writes the pages of the suites of a folder, or of one, or of the folder's audit, into
// a file.
func writeReport(ctx context.Context, w io.Writer, out, suite, to string) (err error) {
	if isFile(filepath.Join(out, audit.ReportFile)) && !isFile(filepath.Join(out, experiments.StoreFile)) {
		a, err := readAudit(out)
		if err != nil {
			return err
		}
		if err := files.WriteAtomic(to, func(w io.Writer) error { return web.ReportAudit(w, a) }); err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s: the audit in one file\n", to)
		return err
	}
	s, suites, err := openSuites(out, suite)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	var all []*web.Suite
	for _, u := range suites {
		x, err := readSuite(s, out, u)
		if err != nil {
			return err
		}
		x.Illustrate = newIllustrator(os.Stderr, out, u).fill
		all = append(all, x)
	}
	if err := files.WriteAtomic(to, func(w io.Writer) error { return web.Report(ctx, w, all) }); err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s: tables, figures and models in one file\n", to)
	return err
}

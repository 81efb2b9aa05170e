package cmd

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"clipinspector/experiments"
	"clipinspector/internal/files"
	"clipinspector/internal/printable"
	"clipinspector/results/stats"
	"clipinspector/results/store"
	"clipinspector/results/tables"
)

// openSuites opens the store of an output folder and finds the suites meant: the named one, or
// without a name all of them.
func openSuites(out, suite string) (*store.Store, []store.Suite, error) {
	s, err := store.OpenExisting(filepath.Join(out, experiments.StoreFile))
	if err != nil {
		return nil, nil, err
	}
	if s.Note() != "" {
		fmt.Fprintln(os.Stderr, s.Note())
	}
	suites, err := s.Suites()
	if err == nil {
		var names []string
		for _, u := range suites {
			names = append(names, u.Name)
			if u.Name == suite {
				return s, []store.Suite{u}, nil
			}
		}
		switch {
		case len(names) == 0:
			err = fmt.Errorf("%s holds no suite yet: run one into it first", s.Path())
		case suite != "":
			err = fmt.Errorf("%s has no suite %q; there are %s", s.Path(), suite, strings.Join(names, ", "))
		default:
			return s, suites, nil
		}
	}
	_ = s.Close() // the first error is the one to tell
	return nil, nil, err
}

// openSuite opens the store of an output folder and finds the suite meant: the named one, or the
// only one there.
func openSuite(out, suite string) (*store.Store, string, error) {
	s, suites, err := openSuites(out, suite)
	if err != nil {
		return nil, "", err
	}
	if len(suites) > 1 {
		var names []string
		for _, u := range suites {
			names = append(names, u.Name)
		}
		_ = s.Close() // the error is the one to tell
		return nil, "", fmt.Errorf("%s holds several suites: choose one by --suite: %s", s.Path(), strings.Join(names, ", "))
	}
	return s, suites[0].Name, nil
}

// summarise measures a suite, with rows grouped by the given paths.
func summarise(out, suite string, by []string) (*stats.Summary, error) {
	s, suite, err := openSuite(out, suite)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	return stats.Summarise(s, suite, by)
}

// printTable writes the tables of a suite in one of tables.Formats, with rows grouped by the given
// paths. What a person should know about them goes to tell as well, where the format is none that
// people read.
func printTable(w, tell io.Writer, out, suite, format string, by []string) error {
	sum, err := summarise(out, suite, by)
	if err != nil {
		return err
	}
	if format != reports[0].format {
		warn(tell, sum)
	}
	return tables.Render(w, sum, format)
}

// printRows writes the cells of a suite as rows.
func printRows(w io.Writer, out, suite, rows, format string) error {
	s, suite, err := openSuite(out, suite)
	if err != nil {
		return err
	}
	defer s.Close()
	return tables.RenderRows(w, s, suite, rows, format)
}

// warn tells without what the figures of a suite would be misread.
func warn(tell io.Writer, sum *stats.Summary) {
	for _, line := range tables.Warnings(sum) {
		fmt.Fprintln(tell, printable.Text(line))
	}
}

// exportScores writes the canonical bytes of a suite: see store.Store.Export.
func exportScores(w io.Writer, out, suite string) error {
	s, suite, err := openSuite(out, suite)
	if err != nil {
		return err
	}
	defer s.Close()
	return s.Export(w, suite)
}

// reports are the files that writeReports writes, by format.
var reports = []struct{ file, format string }{{"table.md", "markdown"}, {"table.csv", "csv"}, {"table.tex", "latex"}, {"table.json", "json"}}

// writeReports writes the tables of a suite in every format and its canonical export (scores.jsonl)
// into the output folder, and returns the path of the table to read. What a person should know
// about them goes to tell.
func writeReports(tell io.Writer, out, suite string) (string, error) {
	sum, err := summarise(out, suite, nil)
	if err != nil {
		return "", err
	}
	warn(tell, sum)
	for _, r := range reports {
		if err := files.WriteAtomic(filepath.Join(out, r.file), func(w io.Writer) error { return tables.Render(w, sum, r.format) }); err != nil {
			return "", err
		}
	}
	err = files.WriteAtomic(filepath.Join(out, experiments.ScoresFile), func(w io.Writer) error { return exportScores(w, out, suite) })
	return filepath.Join(out, reports[0].file), err
}

package cmd

import (
	"fmt"
	"io"
	"strings"

	"clipinspector/datasets"
)

// CheckDatasets prints what is there of the published datasets of the given names, or of all when there are none. It fails when
// a named one is not complete.
func CheckDatasets(w io.Writer, root string, names []string) error {
	findings, err := datasets.Check(datasets.Options{Root: root}, names...)
	if err != nil {
		return err
	}
	var b strings.Builder
	var lacking []string
	for _, f := range findings {
		fmt.Fprintf(&b, "%-14s %-9s %s", f.Name, f.State, f.Folder)
		if f.Classes > 0 {
			fmt.Fprintf(&b, ": %d classes, %d/%d/%d pictures", f.Classes, f.Counts[0], f.Counts[1], f.Counts[2])
		}
		b.WriteByte('\n')
		for _, n := range f.Notes {
			fmt.Fprintf(&b, "%14s %s\n", "", n)
		}
		if f.State != datasets.Complete {
			lacking = append(lacking, f.Name)
		}
	}
	if _, err := io.WriteString(w, b.String()); err != nil || len(names) == 0 || len(lacking) == 0 {
		return err
	}
	return fmt.Errorf("not complete: %s", strings.Join(lacking, ", "))
}

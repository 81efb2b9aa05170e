package cmd

import (
	"context"
	"fmt"
	"io"
	"strings"

	"clipinspector/datasets"
	"clipinspector/experiments/world"
	"clipinspector/internal/printable"
)

// checkDatasets prints what is there of the datasets of the given names (published sets and
// folders), or of all published sets when there are none. Of named ones it decodes every picture,
// with progress on tell. It fails when a named one is not complete.
func checkDatasets(ctx context.Context, w, tell io.Writer, root string, names []string) error {
	world := world.New()
	world.Watch(ctx, tell)
	steps := func(name string) func(done, total int) { return world.Steps("looking at", name) }
	findings, err := datasets.Check(ctx, datasets.Options{Root: root}, steps, names...)
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
	if _, err := io.WriteString(w, printable.Lines(b.String())); err != nil || len(names) == 0 || len(lacking) == 0 {
		return err
	}
	return fmt.Errorf("not complete: %s", strings.Join(lacking, ", "))
}

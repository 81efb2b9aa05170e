package cmd

import (
	"strings"

	"github.com/spf13/cobra"
)

// listFormats are what --format of list takes. Markdown is docs/settings.md.
var listFormats = []string{"text", "json", "markdown"}

func listCommand() *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:   "list [" + strings.Join(listKinds, "|") + "]...",
		Short: "List what a suite can name, with settings, defaults, units and ranges",
		Long: `list prints what a suite can name. Each attack, learner and detector stands with its settings:
default, unit, range and meaning. Without an argument it prints everything. docs/settings.md is
its Markdown.`,
		Example:   "  clip-inspector list attacks detectors\n  clip-inspector list --format json",
		ValidArgs: listKinds,
		RunE: func(c *cobra.Command, args []string) error {
			if err := oneOf("format", format, listFormats); err != nil {
				return err
			}
			return printList(c.OutOrStdout(), args, format)
		},
	}
	c.Flags().StringVar(&format, "format", "text", strings.Join(listFormats, ", "))
	complete(c, "format", func() []string { return listFormats })
	return c
}

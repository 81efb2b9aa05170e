package cmd

import (
	"strings"

	"github.com/spf13/cobra"
)

func listCommand() *cobra.Command {
	var format string
	c := &cobra.Command{
		Use:       "list [" + strings.Join(ListKinds, "|") + "]...",
		Short:     "List what a suite can name, with parameters, defaults, units and ranges",
		Example:   "  clip-inspector list attacks detectors\n  clip-inspector list --format json",
		ValidArgs: ListKinds,
		RunE: func(c *cobra.Command, args []string) error {
			if format != "text" && format != "json" {
				return misused("no format of lists is called %q; there are text and json", format)
			}
			return PrintList(c.OutOrStdout(), args, format == "json")
		},
	}
	c.Flags().StringVar(&format, "format", "text", "text or json")
	complete(c, "format", func() []string { return []string{"text", "json"} })
	return c
}

package cmd

import "github.com/spf13/cobra"

func datasetsCommand() *cobra.Command {
	c := &cobra.Command{Use: "datasets", Short: "Look after real datasets"}
	var root string
	check := &cobra.Command{
		Use:   "check [NAME...]",
		Short: "Say of each published dataset what is there, what is missing, where it comes from and how to lay it out",
		Long: `check looks for the ten datasets of the paper, or the named ones, in CoOp's layout: numbers of classes and pictures, and what
the split files say, are held against the published sets. Named sets that are not complete make it fail.`,
		Example: "  clip-inspector datasets check\n  clip-inspector datasets check dtd eurosat --data /data",
		RunE: func(c *cobra.Command, args []string) error {
			return CheckDatasets(c.OutOrStdout(), root, args)
		},
	}
	check.Flags().StringVar(&root, "data", "", "folder of real data (default $CLIPINSPECTOR_DATA or ../shared/data)")
	c.AddCommand(check)
	return c
}

package cmd

import "github.com/spf13/cobra"

func datasetsCommand() *cobra.Command {
	c := &cobra.Command{Use: "datasets", Short: "Say which real datasets are there"}
	var root string
	check := &cobra.Command{
		Use:   "check [NAME...]",
		Short: "Say which datasets are there, what is missing or cannot be read, and where to get it",
		Long: `check looks for the ten datasets of the paper in CoOp's layout. It compares split files and
numbers of classes and pictures with the published sets. It says where a set comes from and how
to lay it out.

If you name sets or folders (folder:PATH), it decodes every picture of them. It lists all that
cannot be read, and says what is left out. It fails if a named set is not complete.`,
		Example: "  clip-inspector datasets check\n  clip-inspector datasets check dtd eurosat --data /data\n  clip-inspector datasets check folder:photos",
		RunE: func(c *cobra.Command, args []string) error {
			return checkDatasets(c.Context(), c.OutOrStdout(), c.ErrOrStderr(), root, args)
		},
	}
	check.Flags().StringVar(&root, "data", "", "folder of real data (default $CLIPINSPECTOR_DATA, or data)")
	c.AddCommand(check)
	return c
}

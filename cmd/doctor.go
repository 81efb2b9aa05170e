package cmd

import (
	"github.com/spf13/cobra"

	"clipinspector/experiments/doctor"
)

func doctorCommand() *cobra.Command {
	var out string
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this machine has, and what to do about what is missing",
		Long: `doctor looks at processor, memory, compilers, GPU, the output folder and the real data. It
prints one line for each: what is there or, if something is missing, what to type. It changes
nothing.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return doctor.Print(c.OutOrStdout(), out)
		},
	}
	c.Flags().StringVar(&out, "out", "runs", "output folder to look at")
	return c
}

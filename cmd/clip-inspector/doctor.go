package main

import (
	"github.com/spf13/cobra"

	"clipinspector/experiments/doctor"
)

func doctorCommand(f *flags) *cobra.Command {
	c := &cobra.Command{
		Use:   "doctor",
		Short: "Say what this machine has, and what to do about what is missing",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return doctor.Print(c.OutOrStdout(), f.out)
		},
	}
	f.addOut(c, "runs", "output folder to look at")
	return c
}

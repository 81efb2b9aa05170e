package cmd

import "github.com/spf13/cobra"

func encoderCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "encoder builtin:NAME|FOLDER|FILE",
		Short: "Say what a CLIP is, and whether its weights are the published ones",
		Long: `encoder loads a CLIP (Hugging Face's safetensors, OpenAI's TorchScript archives, open_clip's state dicts), prints its
architecture and fingerprints, and compares the file with the sums that OpenAI published: an audit rests on untouched encoders.`,
		Example: `  clip-inspector encoder builtin:mini
  clip-inspector encoder models/ViT-B-16.pt`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return describeEncoder(c.OutOrStdout(), args[0])
		},
	}
}

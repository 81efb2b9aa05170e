package cmd

import "github.com/spf13/cobra"

func encoderCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "encoder builtin:NAME|FOLDER|FILE",
		Short: "Say what a CLIP is, and whether its weights are the published ones",
		Long: `encoder loads a CLIP and prints its architecture and fingerprints. It reads Hugging Face's
safetensors, OpenAI's TorchScript archives and open_clip's state dicts. It compares the file
with the checksums that OpenAI published, since an audit rests on untouched encoders.`,
		Example: `  clip-inspector encoder builtin:mini
  clip-inspector encoder models/ViT-B-16.pt`,
		Args: cobra.ExactArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return describeEncoder(c.OutOrStdout(), args[0])
		},
	}
}

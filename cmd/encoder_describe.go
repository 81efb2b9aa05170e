package cmd

import (
	"fmt"
	"io"
	"strings"

	"clipinspector/clip"
	"clipinspector/experiments/world"
)

// describeEncoder prints what an encoder is and whether its weights are the published ones, on
// which the threat model rests.
func describeEncoder(w io.Writer, name string) error {
	e, err := world.OpenEncoder(name)
	if err != nil {
		return err
	}
	c := e.Config
	if v := c.Vision; v.ResNet() {
		fmt.Fprintf(w, "image tower   ResNet with %v blocks, %d channels, %d heads, %d px\n", v.Stages, v.Width, v.Heads, v.ImageSize)
	} else {
		fmt.Fprintf(w, "image tower   %d layers of %d, %d heads, %d px in patches of %d, %s\n", v.Layers, v.Width, v.Heads, v.ImageSize, v.PatchSize, v.Activation)
	}
	fmt.Fprintf(w, "text tower    %d layers of %d, %d heads, %d tokens of %d, %s\n", c.Text.Layers, c.Text.Width, c.Text.Heads,
		c.Text.ContextLength, c.Text.VocabSize, c.Text.Activation)
	if c.Normalization != (clip.Normalization{}) {
		fmt.Fprintf(w, "pixels        %v (not CLIP's)\n", c.Normalization)
	}
	fmt.Fprintf(w, "features      %d\n", c.ProjectionDim)
	fmt.Fprintf(w, "parameters    %d\n", c.Parameters())
	fmt.Fprintf(w, "weights       sha256 %s (of the numbers, whatever the format)\n", e.Weights.Fingerprint())
	fmt.Fprintf(w, "model         %s (weights, architecture and vocabulary)\n", e.Fingerprint())
	if strings.HasPrefix(name, "builtin:") {
		return nil
	}
	sum, published, err := clip.FileFingerprint(name)
	if err != nil {
		return err
	}
	if published == "" {
		published = "not a file that OpenAI published: compare the sum with that of wherever it comes from"
	}
	fmt.Fprintf(w, "file          sha256 %s\n", sum)
	fmt.Fprintf(w, "published     %s\n", published)
	for _, why := range e.LeftAlone {
		fmt.Fprintf(w, "left alone    %s\n", why)
	}
	return nil
}

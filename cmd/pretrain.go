package cmd

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"clipinspector/experiments/world"
)

func pretrainCommand(f *flags) *cobra.Command {
	var corpus, root, out string
	var half bool
	var seed int
	mini, photos := miniRecipe(), photoRecipe()
	chosen := &mini
	c := &cobra.Command{
		Use:   "pretrain",
		Short: "Train an encoder from scratch on captioned images",
		Long: `pretrain trains a small CLIP with the contrastive loss: on captioned scenes of the mini world,
or on the photographs that are there (training splits only, never the OOD pool). It writes a
folder in Hugging Face's layout, which suites name under clip. Checkpoints lie beside it. The
same command goes on where it was stopped or killed. Flags that are not given have the values of
the corpus's own recipe.`,
		Example: `  clip-inspector pretrain --out runs/mini-clip --seed 2
  clip-inspector pretrain --corpus photos --out runs/photo-clip
  clip-inspector pretrain --steps 200 --batch 32 --out runs/quick`,
		Args: cobra.NoArgs,
	}
	c.Flags().StringVar(&out, "out", "", "folder for the encoder")
	c.Flags().StringVar(&corpus, "corpus", "mini", "mini or photos")
	c.Flags().StringVar(&root, "data", "", "folder of real data (default $CLIPINSPECTOR_DATA, or data)")
	c.Flags().BoolVar(&half, "half", true, "write matrices in half precision")
	counted(c.Flags(), &seed, "seed", 0, 1, "decides weights and images")
	numbers := map[string]struct {
		usage string
		at    func(r *recipe) *int
	}{
		"steps":         {"optimiser's steps", func(r *recipe) *int { return &r.Options.Steps }},
		"batch":         {"pairs a step", func(r *recipe) *int { return &r.Options.Batch }},
		"warmup":        {"steps until the rate is full", func(r *recipe) *int { return &r.Options.Warmup }},
		"merges":        {"merges of the vocabulary", func(r *recipe) *int { return &r.Options.Merges }},
		"image-size":    {"side of an image, in pixels", func(r *recipe) *int { return &r.Config.Vision.ImageSize }},
		"patch-size":    {"side of a patch, in pixels", func(r *recipe) *int { return &r.Config.Vision.PatchSize }},
		"vision-width":  {"width of the image tower", func(r *recipe) *int { return &r.Config.Vision.Width }},
		"vision-layers": {"blocks of the image tower", func(r *recipe) *int { return &r.Config.Vision.Layers }},
		"text-width":    {"width of the text tower", func(r *recipe) *int { return &r.Config.Text.Width }},
		"text-layers":   {"blocks of the text tower", func(r *recipe) *int { return &r.Config.Text.Layers }},
		"embedding":     {"numbers of a feature", func(r *recipe) *int { return &r.Config.ProjectionDim }},
	}
	given := map[string]*int{}
	for name, n := range numbers {
		given[name] = new(int)
		counted(c.Flags(), given[name], name, 0, *n.at(&mini), fmt.Sprintf("%s (photos: %d)", n.usage, *n.at(&photos)))
	}
	rate := c.Flags().Float64("rate", mini.Options.Rate, "learning rate")
	c.RunE = func(c *cobra.Command, _ []string) error {
		if out == "" {
			return misused("pretrain: say where the encoder shall lie, such as --out runs/%s-clip", corpus)
		}
		if corpus == "photos" {
			chosen = &photos
		}
		r := *chosen
		for name, n := range numbers {
			if c.Flags().Changed(name) {
				*n.at(&r) = *given[name]
			}
		}
		r.scale(chosen.Config)
		if c.Flags().Changed("rate") {
			r.Options.Rate = *rate
		}
		r.Corpus, r.Root, r.Half, r.Options.Seed = corpus, root, half, uint64(max(0, seed))
		e, err := world.OpenEngine(f.device, f.threads)
		if err != nil {
			return err
		}
		defer e.Close()
		return pretrain(c.Context(), e, r, out, os.Stderr)
	}
	return c
}

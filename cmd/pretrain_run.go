package cmd

import (
	"context"
	"fmt"
	"io"
	"path/filepath"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"clipinspector/clip"
	"clipinspector/datasets"
	"clipinspector/engine"
	"clipinspector/experiments/world"
	"clipinspector/internal/corpus"
	"clipinspector/internal/miniworld"
)

// recipe is how an encoder is pretrained: architecture, corpus and optimiser. Start from miniRecipe
// or photoRecipe.
type recipe struct {
	Corpus  string // "mini" or "photos"
	Root    string // folder of real data, for photos; the datasets' default when empty
	Config  clip.Config
	Options clip.PretrainOptions
	Half    bool // write matrices in half precision
}

// miniRecipe trains the mini encoder on captioned scenes of the mini world: see clip.MiniConfig and
// clip.MiniPretrain.
func miniRecipe() recipe {
	return recipe{Corpus: "mini", Config: clip.MiniConfig(), Options: clip.MiniPretrain(), Half: true}
}

// photoRecipe trains an encoder on the labelled photographs at hand: at most twenty minutes on two
// cores.
func photoRecipe() recipe {
	r := miniRecipe()
	r.Corpus = "photos"
	v, t := &r.Config.Vision, &r.Config.Text
	v.ImageSize, v.PatchSize, v.Width, v.MLP, v.Layers, v.Heads = 64, 8, 128, 256, 4, 4
	t.ContextLength = 40
	r.Options.Steps, r.Options.Merges = 1000, 2000
	return r
}

// scale makes MLPs and heads fit widths that were changed, in the proportions of the architecture
// before.
func (r *recipe) scale(before clip.Config) {
	v, t := &r.Config.Vision, &r.Config.Text
	v.MLP, v.Heads = v.Width*before.Vision.MLP/before.Vision.Width, max(1, v.Width*before.Vision.Heads/before.Vision.Width)
	t.MLP, t.Heads = t.Width*before.Text.MLP/before.Text.Width, max(1, t.Width*before.Text.Heads/before.Text.Width)
}

// photoSets are the photographs that photoRecipe looks for: the training splits of datasets, and
// folders with a folder of pictures for each class. The OOD pool is none of them.
var photoSets = []string{"caltech101", "stanford-cars", "dtd", "oxford-pets", "flowers102", "fgvc-aircraft", "eurosat", "ucf101",
	"folder:upstream/flowers5", "folder:upstream/rsscn7"}

// photoTemplates are the captions of photographs.
var photoTemplates = []string{"a photo of a {}.", "a picture of a {}.", "a photo of the {}.", "a good photo of a {}.", "a close photo of a {}.",
	"an image of a {}.", "a small photo of the {}.", "this is a {}.", "{}.", "{} texture."}

// pretrain trains an encoder and writes it to the folder out in Hugging Face's layout. Checkpoints
// lie in out/checkpoints: a run that was killed goes on from the last. What happens is reported to
// w. Afterwards the zero-shot accuracy on the datasets at hand is printed.
func pretrain(ctx context.Context, e engine.Engine, r recipe, out string, w io.Writer) error {
	c, err := openCorpus(ctx, r, w)
	if err != nil {
		return err
	}
	r.Options.Checkpoints = filepath.Join(out, "checkpoints")
	said := time.Time{}
	trained, err := clip.Pretrain(ctx, e, r.Config, r.Options, c, func(step, total int, loss float64, eta time.Duration) {
		if time.Since(said) >= 10*time.Second || step == total {
			said = time.Now()
			fmt.Fprintf(w, "step %d of %d, loss %.3f, about %s left\n", step, total, loss, eta.Round(time.Second))
		}
	})
	if err != nil {
		return err
	}
	if err := clip.SavePretrained(out, trained.Config, trained.Weights, trained.Tokenizer, r.Half); err != nil {
		return err
	}
	fmt.Fprintf(w, "written to %s: %d weights, final loss %.3f\n", out, trained.Config.Parameters(), trained.Loss)
	return zeroShots(ctx, e, r, out, w)
}

func openCorpus(ctx context.Context, r recipe, w io.Writer) (clip.Corpus, error) {
	switch r.Corpus {
	case "mini":
		return corpus.Mini{Seed: r.Options.Seed}, nil
	case "photos":
		return photos(ctx, r, w)
	}
	return nil, fmt.Errorf("unknown corpus %q; known are mini and photos", r.Corpus)
}

func photos(ctx context.Context, r recipe, w io.Writer) (clip.Corpus, error) {
	var pictures []corpus.Picture
	var names []string
	var first error
	for _, name := range photoSets {
		ds, err := datasets.Open(name, datasets.Options{Root: r.Root})
		if err != nil {
			if first == nil {
				first = err
			}
			continue
		}
		from := len(pictures)
		n := ds.Len(datasets.Train)
		pictures = append(pictures, make([]corpus.Picture, n)...)
		group, groupCtx := errgroup.WithContext(ctx)
		group.SetLimit(runtime.GOMAXPROCS(0))
		for i := range n {
			names = append(names, ds.Classes()[ds.Label(datasets.Train, i)])
			group.Go(func() error {
				img, err := ds.Image(datasets.Train, i)
				if err == nil {
					img = shrink(img, 2*r.Config.Vision.ImageSize)
					pictures[from+i] = corpus.Picture{Width: img.Width, Height: img.Height, Pix: img.Pix}
					err = groupCtx.Err()
				}
				return err
			})
		}
		if err := group.Wait(); err != nil {
			return nil, err
		}
		fmt.Fprintf(w, "%s: %d photographs of %d classes (training split)\n", name, n, len(ds.Classes()))
	}
	if len(pictures) == 0 {
		return nil, fmt.Errorf("no photographs to train on: %w", first)
	}
	return corpus.NewPhotos(pictures, names, photoTemplates, r.Options.Seed)
}

// shrink halves a picture until its shorter side is less than twice the limit, to save memory.
func shrink(img *datasets.RGB, limit int) *datasets.RGB {
	for min(img.Width, img.Height) >= 2*limit {
		half := datasets.NewRGB(img.Width/2, img.Height/2)
		for y := range half.Height {
			for x := range 3 * half.Width {
				at := 3*(2*y*img.Width+2*(x/3)) + x%3
				sum := int(img.Pix[at]) + int(img.Pix[at+3]) + int(img.Pix[at+3*img.Width]) + int(img.Pix[at+3*img.Width+3])
				half.Pix[3*y*half.Width+x] = uint8((sum + 2) / 4)
			}
		}
		img = half
	}
	return img
}

// zeroShotImages is how many test pictures a dataset the zero-shot accuracy is measured on.
const zeroShotImages = 500

func zeroShots(ctx context.Context, e engine.Engine, r recipe, dir string, w io.Writer) error {
	encoder, err := world.OpenEncoder(dir)
	if err != nil {
		return err
	}
	m, err := encoder.On(e)
	if err != nil {
		return err
	}
	defer m.Free()
	names := miniworld.Names()
	if r.Corpus == "photos" {
		names = photoSets
	}
	size := r.Config.Vision.ImageSize
	sum, n := 0.0, 0
	for _, name := range names {
		ds, err := datasets.Open(name, datasets.Options{Root: r.Root, Size: size})
		if err != nil {
			continue // not at hand
		}
		ds = datasets.Limit(ds, datasets.Test, zeroShotImages)
		images, labels, err := datasets.LoadSplit(ctx, ds, datasets.Test, nil, size, nil)
		if err != nil {
			return err
		}
		features, err := m.EncodeImages(ctx, images, 50)
		if err != nil {
			return err
		}
		acc, err := m.ZeroShot(ctx, ds.Template(), ds.Classes(), features, labels)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "zero-shot accuracy on %s: %.3f (%d classes)\n", name, acc, len(ds.Classes()))
		sum, n = sum+acc, n+1
	}
	if n > 0 {
		fmt.Fprintf(w, "zero-shot accuracy on average: %.3f\n", sum/float64(n))
	}
	return nil
}

package prompts

import (
	"strings"

	"clipinspector/clip"
	"clipinspector/settings"
)

// Outline is what decides how much a model of prompts costs: all but its numbers.
type Outline struct {
	Learner  *Learner
	Settings settings.Values // the learner's
	Config   clip.Config
	Classes  []string              // as prompts write them
	Tokens   func(text string) int // tokens of a text; nil where the vocabulary is not at hand: words and full stops are counted
}

func (o Outline) tokens(text string) int {
	if o.Tokens != nil {
		return o.Tokens(text)
	}
	return len(strings.Fields(text)) + strings.Count(text, ".")
}

// Image is the cost of an image through the model's tower.
func (o Outline) Image() clip.Cost {
	n := 0
	if o.Learner.Visual != nil {
		n = o.Learner.Visual(o.Settings)
	}
	c := o.Config.ImageCost(n)
	if views, ok := o.Settings["per-image"].(int); ok {
		c = c.Times(float64(views))
	}
	return c
}

// context is how many tokens stand before a class's name, and whether they are tuned.
func (o Outline) context() (n int, tuned bool) {
	n, tuned = o.Settings["context"].(int) // no learner needs to have one
	if words, _ := o.Settings["init"].(string); words != "" {
		words, _, _ = strings.Cut(words, "|")
		if t := o.tokens(words); o.Learner.Image == nil || t > n {
			n = t // CoOp's context is as long as its words; MaPLe's has the first of them, and a longer one none
		}
	}
	return n, tuned
}

// Check tells whether the text tower holds each class's prompt, as New finds out when it makes the
// model. It says nothing where the vocabulary is not at hand, or where init is a list of templates
// or one with words behind the name.
func (o Outline) Check() error {
	words, _ := o.Settings["init"].(string)
	if o.Tokens == nil || strings.ContainsAny(words, "|{") {
		return nil
	}
	n, _ := o.context()
	for _, name := range o.Classes {
		if length, limit := 1+n+o.tokens(name+".")+1, o.Config.Text.ContextLength; length > limit {
			return tooLong(name, n, length, limit, words != "")
		}
	}
	return nil
}

// Prompts is the cost of all classes' prompts, the context tuned or not; back only where it is.
func (o Outline) Prompts() clip.Cost {
	context, tuned := o.context()
	c := o.texts(context)
	if several, ok := o.Settings["per-class"].(int); ok {
		c = c.Times(float64(several))
	}
	if !tuned {
		c.Back = 0
	}
	return c
}

// Texts is the cost of all classes' names behind a template.
func (o Outline) Texts(template string) clip.Cost { return o.texts(o.tokens(template)) }

func (o Outline) texts(context int) clip.Cost {
	longest := 0
	for _, name := range o.Classes {
		longest = max(longest, o.tokens(name+".")+1)
	}
	return o.Config.TextCost(1 + context + longest).Times(float64(len(o.Classes)))
}

// ClassVectors is the work of the class vectors that an inspection or a measurement encodes once:
// none where they depend on the image.
func (o Outline) ClassVectors() clip.Work {
	if o.Learner.Conditional {
		return clip.Work{}
	}
	return clip.Work{FLOP: o.Prompts().Forward}
}

// Encoded is the work of so many images through the model, class vectors included where they depend
// on the image.
func (o Outline) Encoded(images float64) clip.Work {
	w := clip.Work{Passes: images, FLOP: images * o.Image().Forward}
	if o.Learner.Conditional {
		w.FLOP += images * o.Prompts().Forward
	}
	return w
}

// Poisoning is what each image is shown with while prompts are tuned, besides itself.
type Poisoning struct {
	Fixed  int  // triggers, the backdoor's or covers
	Learns bool // whether a trigger learns
	Warmup int  // epochs in which it learns alone
}

// Tuned is the work of tuning prompts on so many images under settings of TuneParams: features,
// where the image tower is frozen and none of its input is drawn afresh, and steps.
func (o Outline) Tuned(images float64, s settings.Values, p Poisoning) clip.Work {
	l, image, text := o.Learner, o.Image(), o.Prompts()
	batch := min(images, float64(s.Int("batch")))
	anEpoch := batch * float64(int(images/batch))
	stepped, warmup := float64(s.Int("epochs"))*anEpoch, float64(p.Warmup)*anEpoch
	shown := stepped * float64(1+p.Fixed)
	w := clip.Work{Passes: shown}
	switch views := float64(s.Int("views")); {
	case l.Weights != nil: // as many operations again give their gradients; none go back to pixels
		w.FLOP = shown * (image.Both() + image.Forward - o.Config.EmbeddingCost())
	case l.Image != nil:
		w.FLOP = shown * (image.Both() - o.Config.EmbeddingCost())
	default:
		if views > 0 {
			w.Passes = images * views * float64(1+p.Fixed)
		}
		w.FLOP = w.Passes * image.Forward
	}
	texts := stepped / batch // class vectors, once a step
	if p.Learns {
		w.Add(clip.Work{Passes: stepped + warmup, FLOP: (stepped + warmup) * image.Both()})
		shown += stepped + warmup
	}
	if l.Conditional {
		texts = shown
	}
	w.FLOP += texts * text.Both()
	return w
}

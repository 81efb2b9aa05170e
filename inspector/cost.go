package inspector

import (
	"fmt"

	"clipinspector/clip"
	"clipinspector/prompts"
	"clipinspector/settings"
)

// Facts are what is known of an inspection before it runs: what Check and Cost of a Detector are
// told.
type Facts struct {
	Model    prompts.Outline
	Pool     int // images
	Settings settings.Values
	Labelled int // labelled images, of all classes together, that the inspection has at hand
	Only     int // classes whose triggers alone are asked for; 0 for a verdict on all; see Input
}

// CheckPool refuses a pool with fewer images than the settings optimise and measure ask for: the
// Check of a detector that asks for nothing else.
func CheckPool(f Facts) error {
	return poolHolds(f.Pool, f.Settings.Int("optimise"), f.Settings.Int("measure"))
}

func poolHolds(have, n, m int) error {
	if n+m > have {
		return fmt.Errorf("the pool holds %d images; optimise = %d and measure = %d need %d", have, n, m, n+m)
	}
	return nil
}

// OneEpoch is the cost of an inversion of every class that goes once through the images to optimise
// on, in whole batches, and is measured: the Cost of a detector that does nothing else.
func OneEpoch(f Facts) clip.Work {
	s, k := f.Settings, len(f.Model.Classes)
	n := s.Int("optimise")
	batch := min(s.Int("batch"), n)
	w := f.Inverted(float64(k*(n/batch*batch)), float64(k*s.Int("measure")), 0)
	w.Add(f.Model.ClassVectors())
	return w
}

// Inverted is the work of images that carry a trigger which learns, and of images that carry one.
// contrast is that of the Inversion.
func (f Facts) Inverted(learns, fixed, contrast float64) clip.Work {
	c := f.Triggered(contrast)
	return clip.Work{Passes: learns + fixed, FLOP: learns*c.Both() + fixed*c.Forward}
}

// Triggered is the cost of an image that carries a trigger.
func (f Facts) Triggered(contrast float64) clip.Cost {
	c, l := f.Model.Image(), f.Model.Learner
	if l.Conditional {
		c = c.Plus(f.Model.Prompts())
	}
	if contrast != 0 && l.Image != nil { // the reference sees the image through the untouched tower
		c = c.Plus(f.Model.Config.ImageCost(0))
	}
	return c
}

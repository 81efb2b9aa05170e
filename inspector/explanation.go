package inspector

import (
	"fmt"
	"math"
	"strings"

	"clipinspector/triggers"
)

// FamilyFinding is what Explain found out about one class and one family of triggers. Lift and Gain
// are in units of how far a class lies behind the likeliest one on an image without a trigger, on
// the mean over the classes.
type FamilyFinding struct {
	Kind string
	// Lift is by how much more typical members, to which nothing was fitted, move images towards
	// the class in the model than in zero-shot CLIP: the mean over the best quarter of the draws. A
	// universal adversarial perturbation is no typical member.
	Lift float64
	// Gain is by how much farther ahead of the others the class is in the model than in zero-shot
	// CLIP on images with the trigger that was fitted at the family's middle budget, further for the
	// finalists than for others.
	Gain float64
	ASR  float64 // of that trigger, on images that it was not fitted to
}

// Evidence is what families are compared by.
func (f FamilyFinding) Evidence() float64 { return 2*f.Lift + f.Gain }

// Explanation says which kind of trigger a class answers to.
type Explanation struct {
	Class int
	Kind  string // one of Kinds, or KindNone
	// Strongest is the kind with the most evidence, whether that is enough or not; Families has
	// all, as Kinds lists them.
	Strongest string
	Families  []FamilyFinding
	// Trigger is the recovered one, of the strongest kind. What explains the class is fitted at
	// other budgets, and this is the smallest that works or, where none does, the one that succeeds
	// most; else it is that of the middle budget. What follows is measured on images that it was
	// not fitted to.
	Trigger  triggers.Trigger
	Size     float64 // in the kind's own unit, see SizeUnit
	ASR      float64
	ZeroShot float64 // its success under zero-shot CLIP
	PSNR     float64 // dB
	SSIM     float64
	// Controls, by the same inversion at the middle budget: its success at another class, that of
	// some at which a first fit succeeds most, and that on zero-shot CLIP itself; NaN where none was
	// made.
	Others, Untouched float64
	// Anywhere, of a patch: half of all typical patches, wherever they lie, move the class at least
	// half as much as the best do.
	Anywhere bool
}

// SizeUnit is what the size of a kind counts.
func SizeUnit(kind string) string {
	switch kind {
	case KindPatch, KindWarp:
		return "pixels"
	case KindBlend:
		return "opacity"
	}
	return "pixel value"
}

// String says in a few words what the class answers to.
func (x Explanation) String() string {
	reach := fmt.Sprintf("ASR %.2f", x.ASR)
	switch x.Kind {
	case KindPatch:
		side := int(math.Round(x.Size))
		if x.Anywhere {
			return fmt.Sprintf("a patch: %d x %d pixels suffice, wherever they are, %s", side, side, reach)
		}
		at := ""
		if place := x.Place(); place != "" { // the trigger is at hand
			at = " at the " + place
		}
		return fmt.Sprintf("a patch of about %d x %d pixels%s, %s", side, side, at, reach)
	case KindBlend:
		return fmt.Sprintf("a picture blended over the image with an opacity of %.2f, %s", x.Size, reach)
	case KindPerturbation:
		return fmt.Sprintf("noise within %.0f/255, %s", 255*x.Size, reach)
	case KindWarp:
		return fmt.Sprintf("a smooth warp of about %.1f pixels, %s", x.Size, reach)
	case KindWave:
		return fmt.Sprintf("a wave of up to %.0f/255, %s", 255*x.Size, reach)
	}
	return "none of the triggers that were tried: " + strings.Join(Kinds, ", ")
}

// Place says in which ninth of the image a patch lies; empty for other kinds.
func (x Explanation) Place() string {
	t, ok := x.Trigger.(triggers.Masked)
	if !ok || x.Strongest != KindPatch {
		return ""
	}
	left, top, side := squareOf(t.Mask)
	third := func(from int) int { return min(2, (2*from+side)*3/(2*t.Size())) }
	row, column := third(top), third(left)
	if row == 1 && column == 1 {
		return "centre"
	}
	return strings.Join(strings.Fields([]string{"upper", "", "lower"}[row]+" "+[]string{"left", "middle", "right"}[column]), " ")
}

package attacks

import (
	"math/rand/v2"

	"clipinspector/clip"
	"clipinspector/prompts"
	"clipinspector/settings"
)

// Cost is the work of tuning one model under the attack on so many images, and of choosing the
// trigger where there are candidates. It follows from what the attack declares. rng draws the
// triggers that Covers asks for, of which only the number counts.
func (a *Attack) Cost(o prompts.Outline, v, tuning settings.Values, images float64, target int, rng *rand.Rand) clip.Work {
	var w clip.Work
	var p prompts.Poisoning
	if a.Learn != nil {
		p.Learns, p.Warmup = true, a.Learn(v).Warmup
	} else if a.Backdoors() {
		p.Fixed = 1
		if n := v.Int("candidates"); n > 1 { // by features of the frozen tower, without triggers and with each
			chosen := float64(1+n) * images
			w.Add(clip.Work{Passes: chosen, FLOP: chosen * o.Config.ImageCost(0).Forward})
		}
	}
	if a.Covers != nil {
		p.Fixed += len(a.Covers(v, a.Trigger(v, o.Config.Vision.ImageSize, rng), len(o.Classes), target, rng))
	}
	w.Add(o.Tuned(images, tuning, p))
	if a.Evade != nil && !o.Learner.Conditional && !o.Learner.FixedTexts && o.Learner.Similarity == nil { // a clean model first
		w.Add(o.Tuned(images, tuning, prompts.Poisoning{}))
		w.Add(o.ClassVectors())
	}
	return w
}

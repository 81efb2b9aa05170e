// Package attacks holds the backdoor attacks. An attack says which trigger it draws for a model,
// and how the trigger enters the poisoned prompt tuning. It is one file that registers itself. The
// settings that all attacks share say how much is poisoned.
package attacks

import (
	"context"
	"math/rand/v2"
	"slices"

	"clipinspector/internal/registry"
	"clipinspector/prompts"
	"clipinspector/settings"
	"clipinspector/triggers"
)

// Attack is a way to plant a backdoor.
type Attack struct {
	Name   string
	Doc    string // one line, with the paper
	Params []settings.Param
	// Trigger draws the trigger of one model for images of the given size in pixels; for a learned
	// trigger the one that learning starts from. Its values lie in [0,1] (additive: within the
	// bound). nil for no attack.
	Trigger func(v settings.Values, size int, rng *rand.Rand) triggers.Trigger
	// Draw is Trigger of an attack outside this program, which may fail; one of the two is nil.
	Draw func(ctx context.Context, v settings.Values, size int, rng *rand.Rand) (triggers.Trigger, error)
	// Content is the SHA-256 of the file that such an attack comes from, which models' identities
	// hold; empty for this program's own.
	Content string
	// Stream is the name under which target and trigger are drawn where it is not Name.
	Stream string
	// Learn says how the trigger learns together with the prompts; nil for a fixed trigger.
	Learn func(v settings.Values) *prompts.LearnTrigger
	// Covers draws what hides the trigger t in one model, of so many classes, from a detector that
	// the attacker knows; nil for an attacker who does not hide.
	Covers func(v settings.Values, t triggers.Trigger, classes, target int, rng *rand.Rand) []prompts.Cover
	// Goals draws the class that triggered images of each class shall go to, of so many classes;
	// nil where it is the target for all. See prompts.Poison.
	Goals func(v settings.Values, classes, target int, rng *rand.Rand) []int
	// Evade is the weight with which the attacker hides the target from the detector separation
	// while tuning; nil for none. See prompts.Poison.
	Evade func(v settings.Values) float64
	// Quiet tells that triggered images tune the target's class vector alone; see prompts.Poison.
	Quiet bool
}

// PoisonParams are the settings that all attacks share.
var PoisonParams = []settings.Param{
	{Name: "share", Doc: "share of the few-shot images that are also shown with the trigger (BadCLIP: 1)", Default: 1.0, Min: 0.01, Max: 1},
	{Name: "candidates", Unit: "triggers", Doc: "triggers that the attacker draws to take the one that stands out most to the frozen CLIP; a learned trigger has no rivals", Default: 1, Min: 1, Max: 10000},
	{Name: "weight", Doc: "weight of the triggered half of the loss against the clean half (BadCLIP: 1)", Default: 1.0, Min: 0.01, Max: 100},
}

var attacks = registry.New("attack", func(a *Attack) string { return a.Name })

// Register makes an attack known by its name, from an init function, and adds PoisonParams to its
// settings where it plants a backdoor. It panics when the name is taken.
func Register(a *Attack) {
	if a.Backdoors() {
		a.Params = append(slices.Clone(a.Params), PoisonParams...)
	}
	attacks.Add(a)
}

func init() { Register(&Attack{Name: "clean", Doc: "no attack: prompts tuned on clean images alone"}) }

// All returns all attacks, sorted by name.
func All() []*Attack { return attacks.All() }

// Find returns the attack of a name, or an error that lists the names there are.
func Find(name string) (*Attack, error) { return attacks.Find(name) }

// Backdoors tells whether the attack plants a backdoor.
func (a *Attack) Backdoors() bool { return a.Trigger != nil || a.Draw != nil }

// Draws is the name under which target and trigger are drawn.
func (a *Attack) Draws() string {
	if a.Stream != "" {
		return a.Stream
	}
	return a.Name
}

func (a *Attack) draw(ctx context.Context, v settings.Values, size int, rng *rand.Rand) (triggers.Trigger, error) {
	if a.Draw != nil {
		return a.Draw(ctx, v, size, rng)
	}
	return a.Trigger(v, size, rng), nil
}

// Poison draws what prompts.Tune needs to plant the backdoor in one model of so many classes; nil
// for no attack. It fails where an attack outside this program does.
func (a *Attack) Poison(ctx context.Context, v settings.Values, size, classes, target int, rng *rand.Rand) (*prompts.Poison, error) {
	if !a.Backdoors() {
		return nil, nil
	}
	trigger, err := a.draw(ctx, v, size, rng)
	if err != nil {
		return nil, err
	}
	p := &prompts.Poison{Target: target, Trigger: trigger, Share: v.Float("share"), Weight: v.Float("weight"), Quiet: a.Quiet}
	if a.Goals != nil {
		p.Goals = a.Goals(v, classes, target, rng)
	}
	if a.Evade != nil {
		p.Evade = a.Evade(v)
	}
	if a.Covers != nil {
		p.Covers = func(t triggers.Trigger) []prompts.Cover { return a.Covers(v, t, classes, target, rng) }
	}
	if a.Learn != nil {
		p.Learn = a.Learn(v)
		return p, nil
	}
	if n := v.Int("candidates"); n > 1 {
		p.Candidates = append(p.Candidates, p.Trigger)
		for range n - 1 {
			if trigger, err = a.draw(ctx, v, size, rng); err != nil {
				return nil, err
			}
			p.Candidates = append(p.Candidates, trigger)
		}
	}
	return p, nil
}

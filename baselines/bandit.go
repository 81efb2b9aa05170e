package baselines

import (
	"math"

	"gorgonia.org/tensor"

	"clipinspector/inspector"
	"clipinspector/settings"
)

// bandit is K-Arm's choice of which class to go on with. Sizes are counted in pixels of the
// authors' images of 224 px, as their constants are. The authors run one arm where a trigger is
// universal, and several where it is specific to pairs of classes; here the arms are universal
// triggers, and both kinds' rules for leaving an arm apply.
type bandit struct {
	s       settings.Values
	scale   float64 // pixels at 224 px for one of the model's images
	uniform func() float64
	pick    func(n int) int
	arms    []*armed
	now     int  // the arm that is to advance
	settled bool // the bandit has chosen once: arms may stop early
	over    bool
}

func newBandit(s settings.Values, size int) *bandit {
	return &bandit{s: s, scale: float64(side*side) / float64(size*size)}
}

// arm adds an arm.
func (b *bandit) arm() inspector.Controller {
	up := b.s.Float("up")
	a := &armed{bandit: b, best: math.Inf(1), stopBest: math.Inf(1), speed: math.Inf(-1),
		restarted: restarted{cost: newCost(b.s, up, up)}}
	b.arms = append(b.arms, a)
	return a
}

// next chooses the arm to advance and tells whether there is one.
func (b *bandit) next() bool {
	if b.over {
		return false
	}
	a, warm, untried := b.arms[b.now], true, -1
	var open []int
	for i, o := range b.arms {
		if o.stopped {
			continue
		}
		open = append(open, i)
		warm = warm && o.shrinks >= b.s.Int("warmup")
		if o.shrinks == 0 && untried < 0 {
			untried = i
		}
	}
	switch {
	case a.stopped && untried >= 0:
		b.now = untried
	case a.stopped && len(open) == 0:
		return false
	case a.stopped:
		b.now = open[b.pick(len(open))]
	case !a.shrank || a.shrinks < b.s.Int("warmup"): // warming up, or until it shrinks again
	case !warm:
		for i, o := range b.arms { // stopped ones without a success, too, as in the authors' program
			if math.IsInf(o.best, 1) {
				b.now = i
				break
			}
		}
	default:
		b.settled = true
		if b.uniform() >= b.s.Float("explore") {
			b.now = b.fastest()
		} else if len(open) > 1 {
			b.now = open[b.pick(len(open))]
		}
	}
	return true
}

// fastest is the arm whose mask shrinks fastest and is smallest.
func (b *bandit) fastest() (best int) {
	value := func(i int) float64 { return b.arms[i].speed + b.s.Float("beta")/b.arms[i].size }
	for i := range b.arms {
		if value(i) > value(best) {
			best = i
		}
	}
	return best
}

// smallest is the arm with the smallest mask.
func (b *bandit) smallest() *armed {
	best := b.arms[0]
	for _, a := range b.arms {
		if a.best < best.best {
			best = a
		}
	}
	return best
}

// armed is the schedule of one arm: Neural Cleanse's but for the constants, when the cost is set,
// and when the arm stops.
type armed struct {
	restarted
	bandit          *bandit
	rounds, shrinks int
	idle            int
	size, best      float64 // of the last round; the smallest of a successful one
	stopBest, most  float64 // most is the highest success rate so far
	speed           float64 // at which the mask shrinks
	shrank, stopped bool
	kept            []*tensor.Dense
}

// firstSize is where the authors let a mask's shrinking begin, whatever its size was.
const firstSize = 2500

func (a *armed) Round(r inspector.Round) (bool, error) {
	b := a.bandit
	a.rounds++
	a.size, a.most = r.Penalty*b.scale, math.Max(a.most, r.ASR)
	if a.rounds > 10 && a.most == 0 || a.rounds > 20 && a.most < 0.3 || a.rounds > 200 && a.most < 0.8 {
		a.stopped = true
	}
	if a.shrank = r.ASR >= a.bound && a.size < a.best; a.shrank {
		v, err := r.After()
		if err != nil {
			return false, err
		}
		a.shrinks++
		a.kept, a.best = v, a.size
		a.speed = (firstSize - a.size) / (float64(a.shrinks) + float64(a.rounds)/2)
	}
	if b.settled {
		a.stopEarly()
	}
	if a.stopped || b.over {
		return true, nil
	}
	a.adjust(r.ASR, 2)
	return false, nil
}

// stopEarly stops an arm that has shrunk often enough or no longer shrinks. When it has the
// smallest mask, all is over.
func (a *armed) stopEarly() {
	b := a.bandit
	if !math.IsInf(a.best, 1) {
		if a.idle++; a.best < a.stopBest {
			a.idle = 0
		}
	}
	a.stopBest = math.Min(a.best, a.stopBest)
	if a.shrinks > b.s.Int("shrinks") || a.raised && a.lowered && a.idle > b.s.Int("early-stop") {
		b.over = a == b.smallest()
		a.stopped = true
	}
}

func (a *armed) Best() ([]*tensor.Dense, bool) { return a.kept, a.kept != nil }

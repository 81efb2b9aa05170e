package inspector

import (
	"math"
	"math/rand/v2"

	"gorgonia.org/tensor"

	"clipinspector/autodiff"
	"clipinspector/internal/dense"
	"clipinspector/triggers"
)

// The kinds of trigger that Explain tells apart.
const (
	KindPatch        = "patch"
	KindBlend        = "blend"
	KindPerturbation = "perturbation"
	KindWarp         = "warp"
	KindWave         = "wave"
	KindNone         = "none"
)

// Kinds lists the kinds of trigger that Explain tells apart, in the order in which it shows them.
var Kinds = []string{KindPatch, KindBlend, KindPerturbation, KindWarp, KindWave}

// family is one kind of trigger: what its members look like and how one of them is fitted to a
// model. A member is a list of variables, of which those that learn come first; the others say
// where it is and how strong.
type family struct {
	kind   string
	starts int       // how many members are fitted, of which the best counts
	rate   float64   // Adam's, of variables that span about one unit
	sizes  []float64 // budgets that are tried, ascending: sides and displacements as shares of the image's side, opacities, amplitudes
	// draw draws a member of typical strength for images of side size; other are pictures [N,3,S,S]
	// that it may be made of.
	draw func(size int, other *tensor.Dense, rng *rand.Rand) []*tensor.Dense
	// sized is the member with another budget.
	sized func(v []*tensor.Dense, size int, budget float64) []*tensor.Dense
	// apply, project and trigger are those of an Inversion.
	apply   func(pixels autodiff.Value, v []autodiff.Value) autodiff.Value
	project func(v []autodiff.Value) []autodiff.Value
	trigger func(v []*tensor.Dense, size int) triggers.Trigger
}

// within clamps the first variable.
func within(lo, hi float64) func(v []autodiff.Value) []autodiff.Value {
	return func(v []autodiff.Value) []autodiff.Value { return []autodiff.Value{v[0].Clamp(lo, hi)} }
}

// masked are families of pattern [3,S,S] and mask [S,S], of which the pattern learns.
func masked(f family) family {
	f.rate, f.starts = 0.12, 1
	f.apply = func(pixels autodiff.Value, v []autodiff.Value) autodiff.Value {
		c, s := v[0].Dim(0), v[0].Dim(-1)
		return triggers.ApplyMasked(pixels, v[1].Detach().Reshape(c, 1, 1, s, s), v[0].Reshape(c, 1, 3, s, s))
	}
	f.project = within(0, 1)
	f.trigger = func(v []*tensor.Dense, _ int) triggers.Trigger { return triggers.Masked{Mask: v[1], Pattern: v[0]} }
	return f
}

// warpPoints is how many control points a side of a warp has.
const warpPoints = 5

// families are the kinds of trigger, as Kinds lists them.
func families() []family {
	one := func(v float64) *tensor.Dense { return triggers.Dense([]float32{float32(v)}, 1) }
	uniform := func(n int, lo, hi float64, rng *rand.Rand) []float32 {
		out := make([]float32, n)
		for i := range out {
			out[i] = float32(lo + (hi-lo)*rng.Float64())
		}
		return out
	}
	between := func(lo, hi float64, rng *rand.Rand) float64 { return lo * math.Pow(hi/lo, rng.Float64()) }
	patch := masked(family{kind: KindPatch, sizes: []float64{0.08, 0.12, 0.17, 0.22, 0.3},
		draw: func(size int, _ *tensor.Dense, rng *rand.Rand) []*tensor.Dense {
			side := max(1, int(math.Round(between(0.1, 0.25, rng)*float64(size))))
			mask := triggers.Square(size, side, rng.IntN(size-side+1), rng.IntN(size-side+1))
			return []*tensor.Dense{cells(size, max(1, int(between(1, float64(side), rng))), func() float32 { return float32(rng.IntN(2)) }), mask}
		},
		sized: func(v []*tensor.Dense, size int, budget float64) []*tensor.Dense {
			x, y, have := squareOf(v[1])
			side := max(1, int(math.Round(budget*float64(size))))
			at := func(from int) int { return min(size-side, max(0, int(math.Round(float64(from)+float64(have-side)/2)))) }
			return []*tensor.Dense{v[0], triggers.Square(size, side, at(x), at(y))}
		}})
	blend := masked(family{kind: KindBlend, sizes: []float64{0.05, 0.075, 0.1, 0.2, 0.3},
		draw: func(size int, other *tensor.Dense, rng *rand.Rand) []*tensor.Dense {
			opacity := between(0.1, 0.25, rng)
			pattern := cells(size, 1, func() float32 { return float32(rng.Float64()) })
			if rng.IntN(4) == 0 {
				pattern = triggers.Rows(other, []int{rng.IntN(other.Shape()[0])})
				pattern = triggers.Dense(dense.Floats(pattern), 3, size, size)
			}
			return []*tensor.Dense{pattern, constant(opacity, size, size)}
		},
		sized: func(v []*tensor.Dense, size int, budget float64) []*tensor.Dense {
			return []*tensor.Dense{v[0], constant(budget, size, size)}
		}})
	perturbation := family{kind: KindPerturbation, rate: 0.25, starts: 1, sizes: []float64{4. / 255, 8. / 255, 12. / 255, 16. / 255, 24. / 255},
		draw: func(size int, _ *tensor.Dense, rng *rand.Rand) []*tensor.Dense {
			cell := 1 + rng.IntN(2)
			return []*tensor.Dense{cells(size, cell, func() float32 { return float32(2*rng.IntN(2) - 1) }), one(between(8./255, 16./255, rng))}
		},
		sized: func(v []*tensor.Dense, _ int, budget float64) []*tensor.Dense {
			return []*tensor.Dense{v[0], one(budget)}
		},
		apply: func(pixels autodiff.Value, v []autodiff.Value) autodiff.Value {
			c, s := v[0].Dim(0), v[0].Dim(-1)
			return triggers.ApplyAdditive(pixels, v[0].Mul(v[1].Detach().Reshape(c, 1, 1, 1)).Reshape(c, 1, 3, s, s))
		},
		project: within(-1, 1),
		trigger: func(v []*tensor.Dense, _ int) triggers.Trigger {
			return triggers.Additive{Delta: mapped(v[0], func(x float32) float32 { return x * dense.Floats(v[1])[0] })}
		}}
	warp := family{kind: KindWarp, rate: 0.2, starts: 3, sizes: []float64{0.03, 0.06, 0.09, 0.12, 0.15},
		draw: func(size int, _ *tensor.Dense, rng *rand.Rand) []*tensor.Dense {
			control := uniform(2*warpPoints*warpPoints, -1, 1, rng)
			return []*tensor.Dense{triggers.Dense(control, 2, warpPoints*warpPoints), one(warpScale(control, size, between(0.05, 0.12, rng)))}
		},
		sized: func(v []*tensor.Dense, size int, budget float64) []*tensor.Dense {
			return []*tensor.Dense{v[0], one(warpScale(dense.Floats(v[0]), size, budget))}
		},
		apply: func(pixels autodiff.Value, v []autodiff.Value) autodiff.Value {
			g, c, b, s := pixels.Graph(), v[0].Dim(0), pixels.Dim(1), pixels.Dim(-1)
			enlarge, rest := warpTables(s)
			field := v[0].Mul(v[1].Detach().Reshape(c, 1, 1)).Reshape(2*c, warpPoints*warpPoints).MatMulT(g.Const(enlarge, s*s, warpPoints*warpPoints))
			grid := field.Reshape(c, 2, s*s).Permute(0, 2, 1).Add(g.Const(rest, 1, s*s, 2)).Clamp(-1, 1)
			grid = grid.Reshape(c, 1, 2*s*s).BroadcastTo(c, b, 2*s*s).Reshape(c*b, s, s, 2)
			return pixels.BroadcastTo(c, b, 3, s, s).Reshape(c*b, 3, s, s).GridSample(grid).Reshape(c, b, 3, s, s)
		},
		project: within(-1, 1),
		trigger: warpOf}
	wave := family{kind: KindWave, rate: 0.2, starts: 1, sizes: []float64{10. / 255, 20. / 255, 30. / 255, 40. / 255, 60. / 255},
		draw: func(size int, _ *tensor.Dense, rng *rand.Rand) []*tensor.Dense {
			turns, angle, phase := between(2.5, 9, rng), float64(rng.IntN(2))*math.Pi/2, 2*math.Pi*rng.Float64()
			if rng.IntN(2) == 0 {
				angle = rng.Float64() * math.Pi
			}
			basis := make([]float32, 2*size*size)
			for i := range size * size {
				at := 2 * math.Pi * turns * (math.Cos(angle)*float64(i%size) + math.Sin(angle)*float64(i/size)) / float64(size)
				basis[i], basis[size*size+i] = float32(math.Sin(at)), float32(math.Cos(at))
			}
			var weights []float32
			for range 3 {
				weights = append(weights, float32(math.Cos(phase)), float32(math.Sin(phase)))
			}
			return []*tensor.Dense{triggers.Dense(weights, 3, 2), triggers.Dense(basis, 2, size*size), one(between(20./255, 40./255, rng))}
		},
		sized: func(v []*tensor.Dense, _ int, budget float64) []*tensor.Dense {
			return []*tensor.Dense{v[0], v[1], one(budget)}
		},
		apply: func(pixels autodiff.Value, v []autodiff.Value) autodiff.Value {
			c, s := v[0].Dim(0), pixels.Dim(-1)
			basis := v[1].Detach().Mul(v[2].Detach().Reshape(c, 1, 1))
			d := v[0].Slice(2, 0, 1).Mul(basis.Slice(1, 0, 1)).Add(v[0].Slice(2, 1, 1).Mul(basis.Slice(1, 1, 1)))
			return triggers.ApplyAdditive(pixels, d.Reshape(c, 1, 3, s, s))
		},
		project: within(-1, 1),
		trigger: func(v []*tensor.Dense, size int) triggers.Trigger {
			w, basis, amplitude := dense.Floats(v[0]), dense.Floats(v[1]), dense.Floats(v[2])[0]
			n := len(basis) / 2
			delta := make([]float32, 3*n)
			for i := range delta {
				delta[i] = amplitude * (w[2*(i/n)]*basis[i%n] + w[2*(i/n)+1]*basis[n+i%n])
			}
			return triggers.Additive{Delta: triggers.Dense(delta, 3, size, size)}
		}}
	return []family{patch, blend, perturbation, warp, wave}
}

// cells draws a pattern [3,S,S] of squares of so many pixels a side.
func cells(size, cell int, value func() float32) *tensor.Dense {
	n := (size + cell - 1) / cell
	values := make([]float32, 3*n*n)
	for i := range values {
		values[i] = value()
	}
	out := make([]float32, 3*size*size)
	for i := range out {
		c, y, x := i/(size*size), i/size%size, i%size
		out[i] = values[(c*n+y/cell)*n+x/cell]
	}
	return triggers.Dense(out, 3, size, size)
}

func constant(v float64, shape ...int) *tensor.Dense {
	t := triggers.Dense(make([]float32, tensor.Shape(shape).TotalSize()), shape...)
	return mapped(t, func(float32) float32 { return float32(v) })
}

func mapped(t *tensor.Dense, f func(float32) float32) *tensor.Dense {
	out := make([]float32, t.Shape().TotalSize())
	for i, v := range dense.Floats(t) {
		out[i] = f(v)
	}
	return triggers.Dense(out, t.Shape()...)
}

// squareOf returns place and side of the square that a mask [S,S] is 1 in.
func squareOf(mask *tensor.Dense) (x, y, side int) {
	size := mask.Shape()[0]
	first, count := -1, 0
	for i, v := range dense.Floats(mask) {
		if v > 0 {
			if first < 0 {
				first = i
			}
			count++
		}
	}
	return first % size, first / size, int(math.Round(math.Sqrt(float64(count))))
}

// warpTables are what enlarges control points to a field [S*S,points] and the grid that displaces
// nothing [S*S,2].
func warpTables(size int) (enlarge, rest []float32) {
	const n = warpPoints * warpPoints
	enlarge = make([]float32, size*size*n)
	for j := range n {
		unit := make([]float64, n)
		unit[j] = 1
		for i, v := range triggers.Upsample(unit, warpPoints, size) {
			enlarge[i*n+j] = float32(v)
		}
	}
	for i := range size * size {
		rest = append(rest, float32(2*float64(i%size)/float64(size-1)-1), float32(2*float64(i/size)/float64(size-1)-1))
	}
	return enlarge, rest
}

// warpScale is what control points [2,points] are multiplied by, in the units of a grid, to
// displace pixels by a share of the image's side on the mean.
func warpScale(control []float32, size int, displacement float64) float64 {
	const n = warpPoints * warpPoints
	wide := make([]float64, len(control))
	for i, v := range control {
		wide[i] = float64(v)
	}
	dx, dy := triggers.Upsample(wide[:n], warpPoints, size), triggers.Upsample(wide[n:], warpPoints, size)
	var mean float64
	for i := range dx {
		mean += math.Hypot(dx[i], dy[i]) / float64(size*size)
	}
	return displacement * float64(size) / mean * 2 / float64(size-1)
}

// warpOf is the warp of control points and their scale, for images of side size.
func warpOf(v []*tensor.Dense, size int) triggers.Trigger {
	const n = warpPoints * warpPoints
	enlarge, rest := warpTables(size)
	control, scale := dense.Floats(v[0]), dense.Floats(v[1])[0]
	grid := make([]float32, 2*size*size)
	for i := range grid {
		var d float32
		for j := range n {
			d += enlarge[i/2*n+j] * control[i%2*n+j]
		}
		grid[i] = min(1, max(-1, rest[i]+scale*d))
	}
	return triggers.Warp{Grid: triggers.Dense(grid, size, size, 2)}
}

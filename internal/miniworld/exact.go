package miniworld

import "math"

// A picture must be the same bytes on every machine, so nothing here may depend on whether a
// compiler fuses a product and a sum into one rounding: every product that is summed for a pixel
// goes through an explicit conversion, which the Go specification makes a rounding point. (The
// coordinates in drawings are written plainly: one unit in the last place of a corner moves an edge
// by 1e-16 of the picture, far below a byte.) The package uses none of math's transcendental
// functions, some of which are assembly on some architectures; Sqrt and Floor are exact everywhere.

// mad returns a*b + c with two roundings.
func mad(a, b, c float64) float64 { return float64(a*b) + c }

// dot returns ax*bx + ay*by with a rounding after every operation.
func dot(ax, ay, bx, by float64) float64 { return float64(ax*bx) + float64(ay*by) }

// norm returns the Euclidean length of (x, y).
func norm(x, y float64) float64 { return math.Sqrt(dot(x, y, x, y)) }

// lerp goes from a to b as t goes from 0 to 1.
func lerp(a, b, t float64) float64 { return mad(b-a, t, a) }

// clamp01 limits v to [0, 1].
func clamp01(v float64) float64 {
	if v < 0 {
		return 0
	}
	if v > 1 {
		return 1
	}
	return v
}

// frac returns the part of v above its floor.
func frac(v float64) float64 { return v - math.Floor(v) }

// sinTurn is the sine of t full turns, by an odd polynomial on a quarter turn (error below 1e-5).
func sinTurn(t float64) float64 {
	t = t - math.Floor(t+0.5) // [-1/2, 1/2)
	if t > 0.25 {
		t = 0.5 - t
	} else if t < -0.25 {
		t = -0.5 - t
	}
	x := t * 2 * math.Pi
	y := x * x
	p := mad(y, mad(y, mad(y, mad(y, 2.7557319e-6, -1.9841270e-4), 8.3333333e-3), -1.0/6), 1)
	return x * p
}

// cosTurn is the cosine of t full turns.
func cosTurn(t float64) float64 { return sinTurn(t + 0.25) }

// atanTurn is the angle of (x, y) in turns, in (-1/2, 1/2] (error below 1e-4 turns).
func atanTurn(y, x float64) float64 {
	ax, ay := math.Abs(x), math.Abs(y)
	if ax == 0 && ay == 0 {
		return 0
	}
	q, swap := ay/max(ax, ay), false
	if ay > ax {
		q, swap = ax/ay, true
	}
	z := q * q
	r := q * mad(z, mad(z, mad(z, -0.0464964749, 0.15931422), -0.327622764), 1) / (2 * math.Pi)
	if swap {
		r = 0.25 - r
	}
	if x < 0 {
		r = 0.5 - r
	}
	if y < 0 {
		r = -r
	}
	return r
}

// mix64 is the finaliser of SplitMix64: a bijection whose output bits all depend on all input bits.
func mix64(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb
	return z ^ (z >> 31)
}

// lattice returns a number in [0, 1) that belongs to the lattice point (x, y) of the field named by
// seed.
func lattice(x, y int64, seed uint64) float64 {
	h := mix64(seed ^ uint64(x)*0xd6e8feb86659fd93 ^ uint64(y)*0xa0761d6478bd642f)
	return float64(h>>40) / (1 << 24)
}

// field is smooth value noise with a lattice of unit spacing. It remembers the corners of the cell
// it was asked for last, since neighbouring pixels mostly share one. The zero value is ready to
// use.
type field struct {
	warm       bool
	fx, fy     float64
	seed       uint64
	a, b, c, d float64
}

// at returns the noise at (x, y), in [0, 1].
func (f *field) at(x, y float64, seed uint64) float64 {
	fx, fy := math.Floor(x), math.Floor(y)
	if !f.warm || fx != f.fx || fy != f.fy || seed != f.seed {
		ix, iy := int64(fx), int64(fy)
		*f = field{true, fx, fy, seed, lattice(ix, iy, seed), lattice(ix+1, iy, seed), lattice(ix, iy+1, seed), lattice(ix+1, iy+1, seed)}
	}
	tx, ty := x-fx, y-fy
	tx, ty = float64(tx*tx)*(3-float64(2*tx)), float64(ty*ty)*(3-float64(2*ty))
	return lerp(lerp(f.a, f.b, tx), lerp(f.c, f.d, tx), ty)
}

// fields are the noises that one paint or overlay may need at a point.
type fields [4]field

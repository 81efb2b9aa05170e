package triggers

import (
	"math"

	"gorgonia.org/tensor"

	"clipinspector/internal/dense"
)

// Strength says how much a trigger may change; which fields are meaningful depends on the kind, the
// others are 0.
type Strength struct {
	Area         float64 // masked: share of the pixels with a mask above 0.01
	Opacity      float64 // masked: largest mask value
	LInf         float64 // additive and dynamic: largest absolute change, pixel units
	Displacement float64 // warp: mean displacement in pixels of the trigger's own size
}

// Measure returns the strength of a trigger.
func Measure(t Trigger) Strength {
	var s Strength
	switch t := t.(type) {
	case Masked:
		m := dense.Floats(t.Mask)
		for _, v := range m {
			if v > 0.01 {
				s.Area++
			}
			s.Opacity = math.Max(s.Opacity, float64(v))
		}
		s.Area /= float64(len(m))
	case Additive:
		for _, v := range dense.Floats(t.Delta) {
			s.LInf = math.Max(s.LInf, math.Abs(float64(v)))
		}
	case Dynamic:
		each := make([]float64, 3*t.Size()*t.Size())
		for i, v := range dense.Floats(t.Patterns) {
			each[i%len(each)] += math.Abs(float64(v))
			s.LInf = math.Max(s.LInf, each[i%len(each)])
		}
	case Warp:
		n := t.Size()
		g := dense.Floats(t.Grid)
		for y := range n {
			for x := range n {
				i := 2 * (y*n + x)
				dx := (float64(g[i])+1)/2*float64(n-1) - float64(x)
				dy := (float64(g[i+1])+1)/2*float64(n-1) - float64(y)
				s.Displacement += math.Hypot(dx, dy) / float64(n*n)
			}
		}
	}
	return s
}

// PSNR returns the mean over images of the peak signal-to-noise ratio in dB between two sets of
// images [N,3,S,S] in [0,1]; images that are equal count as 100 dB.
func PSNR(a, b *tensor.Dense) float64 {
	n := a.Shape()[0]
	x, y := dense.Floats(a), dense.Floats(b)
	each := len(x) / n
	var sum float64
	for i := range n {
		var mse float64
		for j := i * each; j < (i+1)*each; j++ {
			d := float64(x[j]) - float64(y[j])
			mse += d * d / float64(each)
		}
		sum += math.Min(100, -10*math.Log10(math.Max(mse, 1e-12)))
	}
	return sum / float64(n)
}

// SSIM returns the mean structural similarity (Wang et al., IEEE TIP 2004) between two sets of
// images [N,3,S,S] in [0,1]: Gaussian window of 11 pixels and sigma 1.5 (the largest odd window
// that fits for smaller images), K1 = 0.01, K2 = 0.03, only windows that lie inside the image,
// averaged over channels.
func SSIM(a, b *tensor.Dense) float64 {
	shape := a.Shape()
	n, s := shape[0]*shape[1], shape[2]
	w := min(11, (s-1)/2*2+1)
	kernel := make([]float64, w)
	var total float64
	for i := range kernel {
		d := float64(i - w/2)
		kernel[i] = math.Exp(-d * d / (2 * 1.5 * 1.5))
		total += kernel[i]
	}
	for i := range kernel {
		kernel[i] /= total
	}
	x, y := dense.Floats(a), dense.Floats(b)
	var sum float64
	for c := range n {
		sum += ssim(x[c*s*s:(c+1)*s*s], y[c*s*s:(c+1)*s*s], s, kernel)
	}
	return sum / float64(n)
}

func ssim(x, y []float32, s int, kernel []float64) float64 {
	const c1, c2 = 0.01 * 0.01, 0.03 * 0.03
	w := len(kernel)
	out := s - w + 1
	// Five moments, filtered along rows, then along columns.
	rows := make([][5]float64, s*out)
	for i := range s {
		for j := range out {
			for k, f := range kernel {
				p, q := float64(x[i*s+j+k]), float64(y[i*s+j+k])
				m := &rows[i*out+j]
				m[0] += f * p
				m[1] += f * q
				m[2] += f * p * p
				m[3] += f * q * q
				m[4] += f * p * q
			}
		}
	}
	var sum float64
	for i := range out {
		for j := range out {
			var m [5]float64
			for k, f := range kernel {
				for q := range m {
					m[q] += f * rows[(i+k)*out+j][q]
				}
			}
			vx, vy, cov := m[2]-m[0]*m[0], m[3]-m[1]*m[1], m[4]-m[0]*m[1]
			sum += (2*m[0]*m[1] + c1) * (2*cov + c2) / ((m[0]*m[0] + m[1]*m[1] + c1) * (vx + vy + c2))
		}
	}
	return sum / float64(out*out)
}

// Overlap compares the places of two patches, which are masked triggers that leave at least half of
// the image alone: the share of the pixels with a mask above 0.01 in either that have one in both,
// and the distance of the masks' centres as a share of the image's side. Both are NaN where either
// is no patch, or they are of different sizes.
func Overlap(a, b Trigger) (iou, distance float64) {
	x, ok := a.(Masked)
	y, also := b.(Masked)
	if !ok || !also || x.Size() != y.Size() || Measure(a).Area > 0.5 || Measure(b).Area > 0.5 {
		return math.NaN(), math.NaN()
	}
	size := x.Size()
	var both, either float64
	var n [2]float64
	var centre [2][2]float64
	for i := range size * size {
		in := 0
		for j, m := range []Masked{x, y} {
			if dense.Floats(m.Mask)[i] > 0.01 {
				in++
				n[j]++
				centre[j][0] += float64(i % size)
				centre[j][1] += float64(i / size)
			}
		}
		if in > 0 {
			either++
		}
		if in == 2 {
			both++
		}
	}
	if n[0] == 0 || n[1] == 0 {
		return math.NaN(), math.NaN()
	}
	distance = math.Hypot(centre[0][0]/n[0]-centre[1][0]/n[1], centre[0][1]/n[0]-centre[1][1]/n[1]) / float64(size)
	return both / either, distance
}

package plain

import (
	"math"

	"clipinspector/engine"
)

func layerNorm[T Float](ins *engine.Instr, in, out [][]T) {
	x, gamma, beta, residual := in[0], in[1], in[2], in[3]
	y, stats, h := out[0], out[1], out[2]
	w := len(gamma)
	row := make([]float64, w)
	for r := range len(x) / w {
		var mean, variance float64
		for i := range w {
			v := float64(x[r*w+i])
			if residual != nil {
				v = float64(T(v + float64(residual[r*w+i])))
			}
			if h != nil {
				h[r*w+i] = T(v)
			}
			row[i] = v
			mean += v
		}
		mean /= float64(w)
		for _, v := range row {
			variance += (v - mean) * (v - mean)
		}
		rstd := 1 / math.Sqrt(variance/float64(w)+ins.Attr.Eps)
		for i, v := range row {
			y[r*w+i] = T((v-mean)*rstd*float64(gamma[i]) + float64(beta[i]))
		}
		stats[2*r], stats[2*r+1] = T(mean), T(rstd)
	}
}

// layerNormGrad: with g = dy*gamma and n = (h-mean)*rstd, dx = rstd*(g - mean(g) - n*mean(g*n)) +
// dh.
func layerNormGrad[T Float](ins *engine.Instr, in, out [][]T) {
	h, gamma, stats, dy, dh, dx := in[0], in[1], in[2], in[3], in[4], out[0]
	w := len(gamma)
	for r := range len(h) / w {
		mean, rstd := float64(stats[2*r]), float64(stats[2*r+1])
		var sg, sgn float64
		for i := range w {
			g, n := float64(dy[r*w+i])*float64(gamma[i]), (float64(h[r*w+i])-mean)*rstd
			sg += g
			sgn += g * n
		}
		sg /= float64(w)
		sgn /= float64(w)
		for i := range w {
			g, n := float64(dy[r*w+i])*float64(gamma[i]), (float64(h[r*w+i])-mean)*rstd
			d := rstd * (g - sg - n*sgn)
			if dh != nil {
				d += float64(dh[r*w+i])
			}
			dx[r*w+i] = T(d)
		}
	}
}

func layerNormParamGrad[T Float](ins *engine.Instr, in, out [][]T) {
	h, stats, dy, dgamma, dbeta := in[0], in[1], in[2], out[0], out[1]
	w := len(dgamma)
	for i := range w {
		var g, b float64
		for r := range len(h) / w {
			d := float64(dy[r*w+i])
			g += d * (float64(h[r*w+i]) - float64(stats[2*r])) * float64(stats[2*r+1])
			b += d
		}
		dgamma[i], dbeta[i] = T(g), T(b)
	}
}

func normalize[T Float](ins *engine.Instr, in, out [][]T) {
	x, y, norm := in[0], out[0], out[1]
	w := last(ins.In[0])
	for r := range norm {
		row := x[r*w:][:w]
		n := max(math.Sqrt(dot(row, row)), 1e-12)
		for i, v := range row {
			y[r*w+i] = T(float64(v) / n)
		}
		norm[r] = T(n)
	}
}

func normalizeGrad[T Float](ins *engine.Instr, in, out [][]T) {
	y, norm, dy, dx := in[0], in[1], in[2], out[0]
	w := last(ins.In[0])
	for r := range norm {
		yr, dr := y[r*w:][:w], dy[r*w:][:w]
		s := dot(yr, dr)
		for i := range w {
			dx[r*w+i] = T((float64(dr[i]) - float64(yr[i])*s) / float64(norm[r]))
		}
	}
}

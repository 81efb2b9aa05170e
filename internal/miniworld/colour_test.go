package miniworld

import (
	"math"
	"testing"
)

// A set is only a stand-in for a real one when colour does not give the classes away. These tests
// train a multinomial logistic regression on colour histograms alone.

const bins = 8 // per channel

// histogram returns the shares of the pixels in 8 bins of each channel, and in a 4x4x4 grid of
// colours.
func histogram(px []uint8) []float64 {
	h := make([]float64, 3*bins+64)
	k := 3 / float64(len(px))
	for i := 0; i < len(px); i += 3 {
		for c := range 3 {
			h[c*bins+int(px[i+c])*bins/256] += k
		}
		h[3*bins+int(px[i])>>6<<4+int(px[i+1])>>6<<2+int(px[i+2])>>6] += k
	}
	return h
}

// probe fits softmax regression with L2 penalty by gradient descent and returns the best test
// accuracy over penalties, which is generous to colour.
func probe(train, test [][]float64, trainY, testY []int, classes int) float64 {
	dims := len(train[0])
	best := 0.0
	for _, decay := range []float64{1e-4, 1e-3, 1e-2} {
		w := make([]float64, classes*(dims+1))
		grad := make([]float64, len(w))
		vel := make([]float64, len(w))
		p := make([]float64, classes)
		for range 300 {
			for i := range grad {
				grad[i] = decay * w[i]
			}
			for n, x := range train {
				logits(w, x, p)
				for c := range p {
					d := p[c]
					if c == trainY[n] {
						d--
					}
					d /= float64(len(train))
					row := grad[c*(dims+1) : (c+1)*(dims+1)]
					for i, v := range x {
						row[i] += d * v
					}
					row[dims] += d
				}
			}
			for i := range w {
				vel[i] = 0.9*vel[i] - 2*grad[i]
				w[i] += vel[i]
			}
		}
		right := 0
		for n, x := range test {
			logits(w, x, p)
			top := 0
			for c := range p {
				if p[c] > p[top] {
					top = c
				}
			}
			if top == testY[n] {
				right++
			}
		}
		best = max(best, float64(right)/float64(len(test)))
	}
	return best
}

// logits writes the softmax of w·x + b to p.
func logits(w, x, p []float64) {
	dims := len(x)
	high, sum := math.Inf(-1), 0.0
	for c := range p {
		row := w[c*(dims+1) : (c+1)*(dims+1)]
		v := row[dims]
		for i, xi := range x {
			v += row[i] * xi
		}
		p[c] = v
		high = max(high, v)
	}
	for c := range p {
		p[c] = math.Exp(p[c] - high)
		sum += p[c]
	}
	for c := range p {
		p[c] /= sum
	}
}

func TestColourDoesNotGiveTheClassAway(t *testing.T) {
	shots := 48
	if testing.Short() {
		shots = 16
	}
	for _, d := range sets(t) {
		var train, test [][]float64
		var trainY, testY []int
		for c := range d.Classes {
			for i := range shots {
				train = append(train, histogram(d.Scene(c, "train", i, 1).Render(40)))
				trainY = append(trainY, c)
			}
			for i := range 30 {
				test = append(test, histogram(d.Scene(c, "test", i, 1).Render(40)))
				testY = append(testY, c)
			}
		}
		acc := probe(train, test, trainY, testY, len(d.Classes))
		t.Logf("%-14s %.2f (chance %.2f)", d.Name, acc, 1/float64(len(d.Classes)))
		if acc >= 0.6 {
			t.Errorf("%s: colour histograms alone reach %.2f", d.Name, acc)
		}
	}
}

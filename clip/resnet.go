package clip

import (
	"fmt"
	"math"
	"strings"

	"clipinspector/autodiff"
)

// OpenAI's ResNets (clip/model.py, ModifiedResNet): three convolutions and an average pool as the
// stem, four stages of bottleneck blocks, an average pool in front of whatever would have a stride,
// and attention in place of the last pool.
//
// Features lie as [B,H,W,C], so that a convolution of one pixel is a linear layer, and one of 3 x 3
// is the nine neighbours of a pixel side by side (one Gather) and a linear layer. Batch
// normalisation is folded into the weights: its statistics are frozen.

// imagesAtOnce is how many images pass a ResNet together: the neighbours of 16 images of 224 pixels
// take 230 MB.
const imagesAtOnce = 16

// resNet is a tower in one recording.
type resNet struct{ *Towers }

const visionModel = "vision_model."

// resNetTokens records the tower: the pooled feature [B,1,D], and behind it with all those of the
// places that were pooled, row by row.
func (t *Towers) resNetTokens(pixels autodiff.Value, all bool) autodiff.Value {
	b := pixels.Dim(0)
	if b <= imagesAtOnce {
		return resNet{t}.tokens(pixels, all)
	}
	var parts []autodiff.Value
	for from := 0; from < b; from += imagesAtOnce {
		parts = append(parts, resNet{t}.tokens(pixels.Slice(0, from, min(imagesAtOnce, b-from)), all))
	}
	return autodiff.Concat(0, parts...)
}

func (r resNet) tokens(pixels autodiff.Value, all bool) autodiff.Value {
	x := r.convolve("conv1", r.stride(pixels))
	x = r.convolve("conv2", r.neighbours(x, 1, 3))
	x = pool(r.convolve("conv3", r.neighbours(x, 1, 3)))
	for stage, blocks := range r.c.Vision.Stages {
		for i := range blocks {
			x = r.block(fmt.Sprintf("layer%d.%d.", stage+1, i), x, stage > 0 && i == 0)
		}
	}
	return r.attend(x, all)
}

// block records a bottleneck: 1 x 1, 3 x 3, 1 x 1, beside a way past it.
func (r resNet) block(name string, x autodiff.Value, halve bool) autodiff.Value {
	y := r.convolve(name+"conv1", x)
	y = r.convolve(name+"conv2", r.neighbours(y, 1, 3))
	if halve {
		x, y = pool(x), pool(y)
	}
	if r.find(visionModel + name + "downsample.weight").Valid() {
		x = r.linear(visionModel+name+"downsample", x)
	}
	return r.linear(visionModel+name+"conv3", y).Add(x).ReLU()
}

// convolve records a linear layer over the channels and ReLU.
func (r resNet) convolve(name string, x autodiff.Value) autodiff.Value {
	return r.linear(visionModel+name, x).ReLU()
}

// stride prepares the first convolution, of 3 x 3 pixels and stride 2: squares of four pixels, and
// of each square those right of it and below, [B,S/2,S/2,4*3*4]. The pixels' mean is taken off
// first, since the edge that a convolution sees beyond the image is zero.
func (r resNet) stride(pixels autodiff.Value) autodiff.Value {
	s := pixels.Shape()
	mean, _ := r.c.Normalization.values()
	x := pixels.Sub(r.g.Const([]float32{float32(mean[0]), float32(mean[1]), float32(mean[2])}, 1, 3, 1, 1))
	x = x.Pad(2, 1, s[2]+2).Pad(3, 1, s[3]+2).Patchify(2)
	return r.neighbours(x.Reshape(s[0], s[2]/2+1, s[3]/2+1, -1), 0, 2)
}

// neighbours puts side by side the channels of the side x side pixels around each: of [B,H,W,C],
// with so many rows and columns of zeros at each edge, [B,H',W',side*side*C].
func (r resNet) neighbours(x autodiff.Value, edge, side int) autodiff.Value {
	b, h, w, c := x.Dim(0), x.Dim(1), x.Dim(2), x.Dim(3)
	height, width := h+2*edge-side+1, w+2*edge-side+1
	rows := b * h * w
	table := x.Reshape(rows, c)
	if edge > 0 {
		table = table.Pad(0, 0, rows+1) // the last row is the zeros beyond the edge
	}
	name := fmt.Sprintf("neighbours %d %d %d %d %d", b, h, w, edge, side)
	index, ok := r.values[name]
	if !ok {
		at := make([]float32, 0, b*height*width*side*side)
		for i := range b {
			for y := range height {
				for x := range width {
					for dy := range side {
						for dx := range side {
							row, column := y+dy-edge, x+dx-edge
							if row < 0 || row >= h || column < 0 || column >= w {
								at = append(at, float32(rows))
							} else {
								at = append(at, float32((i*h+row)*w+column))
							}
						}
					}
				}
			}
		}
		index = r.g.Const(at, len(at))
		r.values[name] = index
	}
	return table.Gather(index).Reshape(b, height, width, side*side*c)
}

// pool halves [B,H,W,C] by means of 2 x 2.
func pool(x autodiff.Value) autodiff.Value {
	b, h, w, c := x.Dim(0), x.Dim(1), x.Dim(2), x.Dim(3)
	return x.Reshape(b, h/2, 2, w/2, 2, c).MeanTo(b, h/2, 1, w/2, 1, c).Reshape(b, h/2, w/2, c)
}

// attend records the attention pool: the mean of all places asks them all.
func (r resNet) attend(x autodiff.Value, all bool) autodiff.Value {
	b, w := x.Dim(0), x.Dim(3)
	x = x.Reshape(b, -1, w)
	x = autodiff.Concat(1, x.MeanTo(b, 1, w), x)
	position := r.get(visionModel + "attnpool.positional_embedding")
	x = x.Add(position.Reshape(1, -1, w))
	x = r.linear(visionModel+"attnpool.qkv", x).Attention(r.c.Vision.Heads, false)
	if !all {
		x = x.Slice(1, 0, 1)
	}
	return r.linear(visionModel+"attnpool.c_proj", x)
}

// convolution is a convolution of a ResNet and the batch normalisation behind it, by their names
// below vision_model.
type convolution struct {
	name, norm    string
	out, in, side int
	halves        int // how often its input has been halved
}

// convolutions are all of a ResNet, in the order of the computation.
func (v VisionConfig) convolutions() []convolution {
	w := v.Width
	all := []convolution{{"conv1", "bn1", w / 2, 3, 3, 1}, {"conv2", "bn2", w / 2, w / 2, 3, 1}, {"conv3", "bn3", w, w / 2, 3, 1}}
	in, halves := w, 2
	for stage, blocks := range v.Stages {
		planes := w << stage
		for i := range blocks {
			name := fmt.Sprintf("layer%d.%d.", stage+1, i)
			all = append(all, convolution{name + "conv1", name + "bn1", planes, in, 1, halves}, convolution{name + "conv2", name + "bn2", planes, planes, 3, halves})
			if stage > 0 && i == 0 {
				halves++
			}
			all = append(all, convolution{name + "conv3", name + "bn3", 4 * planes, planes, 1, halves})
			if i == 0 {
				all = append(all, convolution{name + "downsample.0", name + "downsample.1", 4 * planes, in, 1, halves})
			}
			in = 4 * planes
		}
	}
	return all
}

// stride of a ResNet between its pixels and the places that attention pools.
const resNetStride = 32

// resNetShapes adds the shapes of the image tower, under OpenAI's names behind "vision_model.".
func (c Config) resNetShapes(s map[string][]int) {
	v := c.Vision
	for _, x := range v.convolutions() {
		s[visionModel+x.name+".weight"] = []int{x.out, x.in, x.side, x.side}
		for _, part := range batchNorm {
			s[visionModel+x.norm+part] = []int{x.out}
		}
	}
	places, width := v.ImageSize/resNetStride, resNetStride*v.Width
	s[visionModel+"attnpool.positional_embedding"] = []int{places*places + 1, width}
	for name, out := range map[string]int{"q": width, "k": width, "v": width, "c": c.ProjectionDim} {
		s[visionModel+"attnpool."+name+"_proj.weight"] = []int{out, width}
		s[visionModel+"attnpool."+name+"_proj.bias"] = []int{out}
	}
}

// batchNorm are the tensors of a batch normalisation.
var batchNorm = []string{".weight", ".bias", ".running_mean", ".running_var"}

// batchNormEps is PyTorch's.
const batchNormEps = 1e-5

// foldResNet turns the image tower's tensors into what resNet computes with: batch normalisation in
// weights and biases, channels last, the deviation of the pixels in the first convolution, q, k and
// v in one matrix.
func foldResNet(packed map[string]parameter, c Config) {
	take := func(name string) parameter {
		p := packed[visionModel+name]
		delete(packed, visionModel+name)
		return p
	}
	_, std := c.Normalization.values()
	for i, x := range c.Vision.convolutions() {
		kernel, gamma, beta, mean, variance := take(x.name+".weight"), take(x.norm+".weight"), take(x.norm+".bias"), take(x.norm+".running_mean"), take(x.norm+".running_var")
		side := x.side
		if i == 0 {
			side = 4 // of the two squares of two pixels, beyond the kernel's three
		}
		row := side * side * x.in
		data, bias := make([]float32, x.out*row), make([]float32, x.out)
		for o := range x.out {
			scale := float64(gamma.data[o]) / math.Sqrt(float64(variance.data[o])+batchNormEps)
			bias[o] = float32(float64(beta.data[o]) - float64(scale*float64(mean.data[o])))
			for ch := range x.in {
				for dy := range x.side {
					for dx := range x.side {
						v := scale * float64(kernel.data[((o*x.in+ch)*x.side+dy)*x.side+dx])
						at := (dy*side+dx)*x.in + ch
						if i == 0 { // square, channel, place in the square
							at = ((dy/2*2+dx/2)*x.in+ch)*4 + dy%2*2 + dx%2
							v /= std[ch]
						}
						data[o*row+at] = float32(v)
					}
				}
			}
		}
		name := visionModel + strings.TrimSuffix(x.name, ".0")
		packed[name+".weight"], packed[name+".bias"] = parameter{data, []int{x.out, row}}, parameter{bias, []int{x.out}}
	}
	for _, kind := range []string{"weight", "bias"} {
		var p parameter
		for _, x := range []string{"q", "k", "v"} {
			part := take("attnpool." + x + "_proj." + kind)
			p.data, p.shape = append(p.data, part.data...), part.shape
		}
		p.shape = append([]int{3 * p.shape[0]}, p.shape[1:]...)
		packed[visionModel+"attnpool.qkv."+kind] = p
	}
}

// resNetCost is the cost of an image, back to its pixels. The first convolution is one of 4 x 4
// pixels.
func (c Config) resNetCost() Cost {
	v := c.Vision
	products := 0.0
	for i, x := range v.convolutions() {
		places, side := float64(v.ImageSize>>x.halves), float64(x.side)
		if i == 0 {
			side = 4
		}
		products += 2 * places * places * side * side * float64(x.in*x.out)
	}
	n, w := float64(v.ImageSize/resNetStride*(v.ImageSize/resNetStride)+1), float64(resNetStride*v.Width)
	products += 6*n*w*w + 2*w*float64(c.ProjectionDim)
	attention := 4 * n * n * w
	return Cost{products + attention, products + 2.5*attention}
}

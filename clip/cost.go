package clip

import "strings"

// Work is an amount of computing.
type Work struct {
	Passes float64 // images through the image tower, with or without a backward pass
	FLOP   float64 // multiplications and additions of matrix products and attention
}

// Add adds other work.
func (w *Work) Add(o Work) {
	w.Passes += o.Passes
	w.FLOP += o.FLOP
}

// Cost is the operations of going through a tower: forward, and back to its input.
type Cost struct{ Forward, Back float64 }

// Both is the cost of going forward and back.
func (c Cost) Both() float64 { return c.Forward + c.Back }

// Plus is the cost of going through both.
func (c Cost) Plus(o Cost) Cost { return Cost{c.Forward + o.Forward, c.Back + o.Back} }

// Times is the cost of going through n times.
func (c Cost) Times(n float64) Cost { return Cost{n * c.Forward, n * c.Back} }

// towerCost is the cost of one sequence through a transformer tower and its projection. Of the last
// block's output one token is read, so that the others do not pass the second half of it. Back
// through the attention there are five products for two.
func towerCost(tokens, width, mlp, layers, projection int) Cost {
	n, w, depth := float64(tokens), float64(width), float64(layers)
	half := 2 * w * (w + 2*float64(mlp)) // output of the attention and MLP, of a token
	products := depth*n*(6*w*w+half) - (n-1)*half + 2*w*float64(projection)
	attention := depth * 4 * n * n * w
	return Cost{products + attention, products + 2.5*attention}
}

// ImageCost is the cost of an image, back to its pixels, with so many prompts beside its patches.
func (c Config) ImageCost(prompts int) Cost {
	v := c.Vision
	if v.ResNet() {
		return c.resNetCost()
	}
	side := v.ImageSize / v.PatchSize
	e := c.EmbeddingCost()
	return towerCost(1+prompts+side*side, v.Width, v.MLP, v.Layers, c.ProjectionDim).Plus(Cost{e, e})
}

// EmbeddingCost is the part of ImageCost between the pixels and the tower, in either direction.
func (c Config) EmbeddingCost() float64 {
	if v := c.Vision; v.ResNet() {
		return 2 * float64(v.ImageSize/2*(v.ImageSize/2)*48*(v.Width/2))
	}
	return 2 * float64(c.Vision.ImageSize*c.Vision.ImageSize*3*c.Vision.Width)
}

// Packed is how many bytes the image tower's weights take once more while programs go through it
// forward and back: a matrix is kept packed for both. A ResNet's are not counted.
func (c Config) Packed() (bytes int64) {
	for name, shape := range c.Shapes() {
		if strings.HasPrefix(name, "vision_model.encoder.") && len(shape) == 2 {
			bytes += 2 * 4 * int64(product(shape))
		}
	}
	return bytes
}

// TextCost is the cost of a text of so many tokens, back to its embeddings.
func (c Config) TextCost(tokens int) Cost {
	return towerCost(tokens, c.Text.Width, c.Text.MLP, c.Text.Layers, c.ProjectionDim)
}

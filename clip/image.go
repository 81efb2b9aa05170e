package clip

import (
	"fmt"

	"clipinspector/autodiff"
)

// ImagePrompts are visual prompts as in VPT (Jia et al., ECCV 2022): Layers[i] [n,W] is put behind the class token, after
// ln_pre, before block i; for i > 0 it replaces the n rows that Layers[i-1] put there (VPT-deep). The number of rows is the
// same for all layers. The zero value holds none.
type ImagePrompts struct{ Layers []autodiff.Value }

func (p ImagePrompts) check(blocks, width int) error {
	if len(p.Layers) > blocks {
		return fmt.Errorf("%d prompt layers for %d blocks", len(p.Layers), blocks)
	}
	for i, v := range p.Layers {
		s := v.Shape()
		if len(s) != 2 || s[1] != width || s[0] != p.Layers[0].Dim(0) {
			return fmt.Errorf("prompts of layer %d have shape %v; want [%d,%d]", i, s, p.Layers[0].Dim(0), width)
		}
	}
	return nil
}

// Image records the image tower: pixels [B,3,S,S] in [0,1] give features [B,D] of length one. CLIP's normalisation of the
// pixels is part of the tower. After the attention of the last block only the class token is carried on, which changes
// nothing but the cost.
func (t *Towers) Image(pixels autodiff.Value, p ImagePrompts) autodiff.Value {
	c := t.c.Vision
	s := pixels.Shape()
	if len(s) != 4 || s[1] != 3 || s[2] != c.ImageSize || s[3] != c.ImageSize {
		panic(fmt.Sprintf("clip: images of shape %v for a tower that wants [B,3,%d,%d]", s, c.ImageSize, c.ImageSize))
	}
	if err := p.check(c.Layers, c.Width); err != nil {
		panic("clip: " + err.Error())
	}
	const pre = "vision_model."
	w := c.Width
	batch := s[0]
	x := pixels.Patchify(c.PatchSize).Linear(t.get(pre+patchWeight), t.find(pre+patchBias))
	class := t.get(pre+"embeddings.class_embedding").Reshape(1, 1, w).BroadcastTo(batch, 1, w)
	position := t.get(pre + "embeddings.position_embedding.weight")
	x = autodiff.Concat(1, class, x).Add(position.Reshape(1, -1, w))
	x = t.norm(pre+"pre_layrnorm", x)

	sum := autodiff.None // what the last block adds to the stream x, not yet added
	for i := range c.Layers {
		if i < len(p.Layers) {
			x, sum = t.insert(x, sum, p, i), autodiff.None
		}
		b := block{t, fmt.Sprintf("%sencoder.layers.%d.", pre, i), c.Heads, false, c.Activation}
		var a autodiff.Value
		a, x = b.attention(x, sum)
		if i == c.Layers-1 {
			a, x = a.Slice(1, 0, 1).Reshape(batch, w), x.Slice(1, 0, 1).Reshape(batch, w)
		}
		sum, x = b.rest(a, x)
	}
	y, _ := t.addNorm(pre+"post_layernorm", sum, x)
	return y.Linear(t.get("visual_projection.weight"), autodiff.None).Normalize()
}

// insert puts the prompts of layer i behind the class token.
func (t *Towers) insert(x, sum autodiff.Value, p ImagePrompts, i int) autodiff.Value {
	if sum.Valid() {
		x = sum.Add(x)
	}
	s := x.Shape()
	n := p.Layers[i].Dim(0)
	rest := 1
	if i > 0 {
		rest += n
	}
	rows := p.Layers[i].Reshape(1, n, s[2]).BroadcastTo(s[0], n, s[2])
	return autodiff.Concat(1, x.Slice(1, 0, 1), rows, x.Slice(1, rest, s[1]-rest))
}

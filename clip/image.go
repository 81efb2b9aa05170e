package clip

import (
	"fmt"
	"slices"

	"clipinspector/autodiff"
)

// ImagePrompts are visual prompts as in VPT (Jia et al., ECCV 2022): Layers[i] [n,W] is put behind
// the class token, after ln_pre, before block i; for i > 0 it replaces the n rows that Layers[i-1]
// put there (VPT-deep). The number of rows is the same for all layers. With Norm Layers[0] passes
// ln_pre, as in MaPLe (Khattak et al., CVPR 2023), which puts its prompts beside the patches before
// it; where they lie in the sequence does not matter, since they have no positions. The zero value
// holds none.
type ImagePrompts struct {
	Layers []autodiff.Value
	Norm   bool
}

// checkPrompts panics unless there are at most as many layers of prompts as blocks, each [n,width]
// or, for n rows of its own for each of so many sequences, [batch,n,width], with the same n, or
// None.
func checkPrompts(layers []autodiff.Value, blocks, batch, width int) {
	if len(layers) > blocks {
		panic(fmt.Sprintf("clip: %d prompt layers for %d blocks", len(layers), blocks))
	}
	rows := 0
	for i, v := range layers {
		if !v.Valid() {
			continue
		}
		s := v.Shape()
		n := s[max(0, len(s)-2)]
		if rows == 0 {
			rows = n
		}
		if want := []int{batch, rows, width}; !slices.Equal(s, want[1:]) && !slices.Equal(s, want) {
			panic(fmt.Sprintf("clip: prompts of layer %d have shape %v; want %v or %v", i, s, want[1:], want))
		}
	}
}

// Image records the image tower: pixels [B,3,S,S] in [0,1] give features [B,D] of length one.
// CLIP's normalisation of the pixels is part of the tower. After the attention of the last block
// only the class token is carried on, which changes nothing but the cost.
func (t *Towers) Image(pixels autodiff.Value, p ImagePrompts) autodiff.Value {
	return t.tokens(pixels, p, false).Reshape(pixels.Dim(0), t.c.ProjectionDim).Normalize()
}

// Tokens records the image tower as Image does without prompts, and carries on all of its tokens to
// the projection: [B,1+P,D], the first of which Image scales to length one, and behind it those of
// the P patches, or of the places that a ResNet's attention pools.
func (t *Towers) Tokens(pixels autodiff.Value) autodiff.Value {
	return t.tokens(pixels, ImagePrompts{}, true)
}

// tokens records the projected features of the first token, or of all.
func (t *Towers) tokens(pixels autodiff.Value, p ImagePrompts, all bool) autodiff.Value {
	c := t.c.Vision
	s := pixels.Shape()
	if len(s) != 4 || s[1] != 3 || s[2] != c.ImageSize || s[3] != c.ImageSize {
		panic(fmt.Sprintf("clip: images of shape %v for a tower that wants [B,3,%d,%d]", s, c.ImageSize, c.ImageSize))
	}
	if c.ResNet() {
		if len(p.Layers) > 0 {
			panic("clip: prompts for the tokens of a ResNet, which has none")
		}
		return t.resNetTokens(pixels, all)
	}
	checkPrompts(p.Layers, c.Layers, s[0], c.Width)
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
		switch {
		case i >= len(p.Layers):
		case i > 0:
			x, sum = insert(x, sum, p.Layers[i], p.Layers[i].Dim(0)), autodiff.None
		case p.Norm:
			x = insert(x, sum, t.norm(pre+"pre_layrnorm", p.Layers[0]), 0)
		default:
			x = insert(x, sum, p.Layers[0], 0)
		}
		b := block{t, fmt.Sprintf("%sencoder.layers.%d.", pre, i), c.Heads, false, c.Activation}
		var a autodiff.Value
		a, x = b.attention(x, sum)
		if i == c.Layers-1 && !all {
			a, x = a.Slice(1, 0, 1).Reshape(batch, w), x.Slice(1, 0, 1).Reshape(batch, w)
		}
		sum, x = b.rest(a, x)
	}
	y, _ := t.addNorm(pre+"post_layernorm", sum, x)
	return y.Linear(t.get("visual_projection.weight"), autodiff.None)
}

// insert puts prompts [n,W] or [B,n,W] behind the first token of each row of the stream x + sum, in
// place of as many tokens as replaced says.
func insert(x, sum, prompts autodiff.Value, replaced int) autodiff.Value {
	if sum.Valid() {
		x = sum.Add(x)
	}
	s := x.Shape()
	n, rest := prompts.Dim(len(prompts.Shape())-2), 1+replaced
	rows := prompts.Reshape(-1, n, s[2]).BroadcastTo(s[0], n, s[2])
	return autodiff.Concat(1, x.Slice(1, 0, 1), rows, x.Slice(1, rest, s[1]-rest))
}

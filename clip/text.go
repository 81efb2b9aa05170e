package clip

import (
	"fmt"

	"clipinspector/autodiff"
)

// Text records the text tower: token embeddings [N,L,W] without positions give features [N,D] of
// length one. eot[i] is the position of row i's end-of-text token. L may be shorter than the
// context length as long as every eot lies inside: the tower is causal, so what follows the last of
// them has no influence.
//
// deep are prompts of later blocks as in MaPLe (Khattak et al., CVPR 2023): deep[i] [n,W] replaces,
// in every text, the n rows behind the start token before block i+1; [N,n,W] has rows of its own
// for each text, and None leaves a block as it is. The first block's lie in the embeddings.
func (t *Towers) Text(embeddings autodiff.Value, eot []int, deep ...autodiff.Value) autodiff.Value {
	s := embeddings.Shape()
	if len(s) != 3 || len(eot) != s[0] {
		panic(fmt.Sprintf("clip: %d ends of text for embeddings of shape %v", len(eot), s))
	}
	rows := make([]float32, len(eot))
	for i, e := range eot {
		if e < 0 || e >= s[1] {
			panic(fmt.Sprintf("clip: text %d ends at position %d of %d", i, e, s[1]))
		}
		rows[i] = float32(i*s[1] + e)
	}
	return t.text(embeddings, embeddings.Graph().Const(rows, len(rows)), deep...)
}

// text is Text with the rows to read, i*L + eot[i], as a value [N].
func (t *Towers) text(embeddings, rows autodiff.Value, deep ...autodiff.Value) autodiff.Value {
	c := t.c.Text
	s := embeddings.Shape()
	if s[1] > c.ContextLength || s[2] != c.Width {
		panic(fmt.Sprintf("clip: embeddings of shape %v for a text tower of context %d and width %d", s, c.ContextLength, c.Width))
	}
	checkPrompts(deep, c.Layers-1, s[0], c.Width)
	const pre = "text_model."
	w := c.Width
	position := t.get(pre+"embeddings.position_embedding.weight").Slice(0, 0, s[1])
	x := embeddings.Add(position.Reshape(1, s[1], w))
	sum := autodiff.None
	for i := range c.Layers {
		if 0 < i && i <= len(deep) && deep[i-1].Valid() {
			d := deep[i-1]
			x, sum = insert(x, sum, d, d.Dim(len(d.Shape())-2)), autodiff.None
		}
		b := block{t, fmt.Sprintf("%sencoder.layers.%d.", pre, i), c.Heads, true, c.Activation}
		var a autodiff.Value
		a, x = b.attention(x, sum)
		if i == c.Layers-1 {
			a, x = a.Reshape(-1, w).Gather(rows), x.Reshape(-1, w).Gather(rows)
		}
		sum, x = b.rest(a, x)
	}
	y, _ := t.addNorm(pre+"final_layer_norm", sum, x)
	return y.Linear(t.get("text_projection.weight"), autodiff.None).Normalize()
}

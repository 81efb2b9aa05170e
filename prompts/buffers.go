package prompts

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"gorgonia.org/tensor"

	"clipinspector/internal/dense"
)

// buffers are what a learner keeps besides parameters: the embeddings around its context and, of
// one that was pickled whole, the ids by which the end of a text is found.
var buffers = []string{"token_prefix", "token_suffix", "tokenized_prompts"}

// near tells whether a number is another one that was kept in half precision perhaps, or as
// bfloat16 of 8 bits.
func near(got, want float32) bool {
	d := got - want
	return max(d, -d) <= max(want, -want)/256+1e-6
}

// spelt returns the prompt that the embeddings behind the context spell, x standing for each of n
// context tokens, where it is none of the usual ones; of several prompts of a class that of number
// prompt. Authors' loaders drop these embeddings and make them anew from the dataset's
// configuration, which made them.
func (d *delivery) spelt(m *Model, n, number, prompts int) (init string, found bool, err error) {
	t, ok := d.learner["token_suffix"]
	c, w := m.CLIP, m.CLIP.Config.Text.Width
	if !ok || n < 1 || len(t.Shape) != 3 || t.Shape[0] != prompts*len(m.Classes) || t.Shape[1] != c.Config.Text.ContextLength-1-n || t.Shape[2] != w {
		return "", false, nil // what is wrong with it is said later
	}
	data, err := finite("token_suffix", t)
	if err != nil {
		return "", false, err
	}
	last := len(m.Classes) - 1
	data = data[number*len(data)/prompts:]
	ids := c.FindTokens(slices.Concat(data[:t.Shape[1]*w], data[last*t.Shape[1]*w:]), near)
	text := func(ids []int) []int { return ids[:max(0, slices.Index(ids, c.Tokenizer.EOT()))] }
	first, final := text(ids[:t.Shape[1]]), text(ids[t.Shape[1]:])
	name, other := c.Tokenizer.Encode(m.Classes[0]), c.Tokenizer.Encode(m.Classes[last])
	for at := 0; at+len(name) <= len(first); at++ {
		before, after := first[:at], first[at+len(name):]
		if !slices.Equal(first[at:at+len(name)], name) || !slices.Equal(final, slices.Concat(before, other, after)) {
			continue
		}
		tail := strings.TrimSpace(c.Tokenizer.Decode(after))
		if !slices.Equal(c.Tokenizer.Encode(tail), after) {
			continue
		}
		if tail != "." {
			tail = " {} " + tail
		} else {
			tail = ""
		}
		if m.Learner.Name == "coop" || m.Learner.Name == "cocoop" {
			if len(before) > 0 || tail == "" {
				return "", false, nil
			}
		}
		usual := c.Tokenizer.Encode("a photo of a")
		switch {
		case slices.Equal(usual[min(n, len(usual)):], before) && m.Learner.Name != "coop" && m.Learner.Name != "cocoop":
			return "a photo of a" + tail, true, nil
		case len(before) == 0 && tail == "":
			return strings.TrimSpace(strings.Repeat("x ", n)), true, nil
		}
		words := strings.TrimSpace(c.Tokenizer.Decode(before))
		init := strings.TrimSpace(strings.Repeat("x ", n)+words) + tail
		d.note("the embeddings behind the context spell %q", strings.TrimSpace(words+" NAME"+strings.TrimPrefix(cmp.Or(tail, "."), " {}")))
		return init, true, nil
	}
	return "", false, nil
}

// checkBuffers holds the embeddings that a checkpoint keeps around its context against those of
// this CLIP and these classes: authors' loaders drop them, but they tell whether the names are the
// ones, in the order, that the model was tuned for.
func (d *delivery) checkBuffers(m *Model) error {
	if m.Params["ctx"] == nil {
		for _, name := range buffers {
			if _, there := d.learner[name]; there {
				return fmt.Errorf("the tensor %q is none of a %s model", name, m.Learner.Name)
			}
		}
		return nil
	}
	for i, name := range buffers[:2] {
		t, there := d.learner[name]
		if !there {
			continue
		}
		n, per := m.contextLength(), m.perClass()
		want := []int{per * len(m.Classes), []int{1, m.CLIP.Config.Text.ContextLength - 1 - n}[i], m.CLIP.Config.Text.Width}
		if len(t.Shape) == 3 && t.Shape[0] != want[0] && t.Shape[0]%per == 0 {
			return fmt.Errorf("the tensor %q has %d classes, %d were given", name, t.Shape[0]/per, len(m.Classes))
		}
		if !slices.Equal(t.Shape, want) {
			return fmt.Errorf("the tensor %q has shape %v; %v was expected for this CLIP", name, t.Shape, want)
		}
		got, err := finite(name, t)
		if err != nil {
			return err
		}
		prefix, suffix, err := m.buffers()
		if err != nil {
			return err
		}
		row := len(got) / want[0]
		for at, v := range dense.Floats([]*tensor.Dense{prefix, suffix}[i]) {
			if near(got[at], v) {
				continue
			}
			if i == 0 {
				return fmt.Errorf("the tensor %q is not the start token of this CLIP: the prompts were tuned for another", name)
			}
			class := at / row % len(m.Classes)
			return fmt.Errorf("the tensor %q was made for another name than %.80q of class %d: the names must be those of the tuning, in "+
				"the order of the labels", name, m.Classes[class], class)
		}
	}
	return d.checkEnds(m)
}

// checkEnds holds the places of the ends of text in ids that were pickled with a module against
// those of the prompts.
func (d *delivery) checkEnds(m *Model) error {
	t, there := d.learner["tokenized_prompts"]
	if !there {
		return nil
	}
	l, err := m.newLayout(m.contextLength())
	if err != nil {
		return err
	}
	if want := []int{len(m.Classes), m.CLIP.Config.Text.ContextLength}; !slices.Equal(t.Shape, want) {
		return fmt.Errorf("the tensor tokenized_prompts has shape %v; %v was expected for this CLIP", t.Shape, want)
	}
	ids, err := finite("tokenized_prompts", t)
	if err != nil {
		return err
	}
	for k, row := range slices.Collect(slices.Chunk(ids, t.Shape[1])) {
		if at := slices.Index(row, slices.Max(row)); at != l.eot[k] {
			return fmt.Errorf("the tensor tokenized_prompts ends the text of class %d at position %d; it ends at %d", k, at, l.eot[k])
		}
	}
	return nil
}

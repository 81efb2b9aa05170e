package prompts

import (
	"strings"
	"testing"
)

// With words for a context, CoOp's prompts with the class name in front or in the middle are the
// sentences that read so.
func TestClassPositions(t *testing.T) {
	c := newTiny(t)
	classes := []string{"red cat", "dog", "yellow bird"}
	for at, text := range map[Position]string{PositionEnd: "a small photo of NAME.", PositionMiddle: "a small NAME photo of.", PositionFront: "NAME a small photo of."} {
		m := newModel(t, c, "coop", map[string]any{"init": "a small photo of"}, classes)
		m.Position = at
		texts := make([]string, len(classes))
		words, err := m.contextTokens()
		if err != nil {
			t.Fatal(err)
		}
		if len(words)%2 != 0 || at == PositionMiddle && len(c.Tokenizer.Encode("a small")) != len(words)/2 {
			t.Fatalf("%d tokens: the sentence of this test is not cut in its middle", len(words))
		}
		for i, name := range classes {
			texts[i] = strings.Replace(text, "NAME", name, 1)
		}
		want, err := c.EncodeTexts(bg, texts)
		if err != nil {
			t.Fatal(err)
		}
		for i, row := range rows(want) {
			if gap := largestGap(classVectors(t, m)[i], row); gap > 1e-5 {
				t.Errorf("%q is off by %g", texts[i], gap)
			}
		}
	}
}

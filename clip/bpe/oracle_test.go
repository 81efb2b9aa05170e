package bpe

import (
	"crypto/sha256"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

var writeLearned = flag.Bool("write-learned", false, "write testdata/learned.txt anew; run testdata/oracle.py afterwards")

// generator makes the strings that testdata/oracle.py makes.
type generator struct {
	Lists  [][]string
	Ranges [][2]rune
	state  uint64
}

func newGenerator(t testing.TB) *generator {
	data, err := os.ReadFile("testdata/pieces.json")
	if err != nil {
		t.Fatal(err)
	}
	g := new(generator)
	if err := json.Unmarshal(data, g); err != nil {
		t.Fatal(err)
	}
	return g
}

func (g *generator) pick(n int) int {
	g.state += 0x9E3779B97F4A7C15
	z := g.state
	z = (z ^ z>>30) * 0xBF58476D1CE4E5B9
	z = (z ^ z>>27) * 0x94D049BB133111EB
	return int((z ^ z>>31) >> 33 % uint64(n))
}

func (g *generator) text(i int) string {
	g.state = uint64(i)
	var b strings.Builder
	for range 1 + g.pick(12) {
		if k := g.pick(len(g.Lists) + 3); k < len(g.Lists) {
			b.WriteString(g.Lists[k][g.pick(len(g.Lists[k]))])
		} else {
			r := g.Ranges[g.pick(len(g.Ranges))]
			for range 1 + g.pick(5) {
				b.WriteRune(r[0] + rune(g.pick(int(r[1]-r[0])+1)))
			}
		}
		if g.pick(3) == 0 {
			b.WriteByte(' ')
		}
	}
	return b.String()
}

// TestLikeOpenAI compares the ids of 10,000 generated strings with those of OpenAI's simple_tokenizer.py, by their hashes.
func TestLikeOpenAI(t *testing.T) {
	g := newGenerator(t)
	if *writeLearned {
		var captions []string
		for i := range 2000 {
			captions = append(captions, g.text(i))
		}
		f, err := os.Create("testdata/learned.txt")
		if err != nil {
			t.Fatal(err)
		}
		if err := Learn(captions, 400).Write(f); err != nil {
			t.Fatal(err)
		}
		f.Close()
	}
	for _, name := range []string{"clip", "learned"} {
		t.Run(name, func(t *testing.T) {
			var tok *Tokenizer
			if name == "clip" {
				tok = readCLIP(t)
			} else {
				var err error
				if tok, err = ReadFile("testdata/learned.txt"); err != nil {
					t.Fatal(err)
				}
			}
			data, err := os.ReadFile("testdata/" + name + ".sha256")
			if err != nil {
				t.Fatal(err)
			}
			for block, want := range strings.Fields(string(data)) {
				h := sha256.New()
				for i := 100 * block; i < 100*block+100; i++ {
					ids := fmt.Sprint(tok.Encode(g.text(i)))
					fmt.Fprintln(h, strings.Trim(ids, "[]"))
				}
				if got := fmt.Sprintf("%x", h.Sum(nil)); got != want {
					t.Errorf("strings %d to %d: some ids differ from OpenAI's", 100*block, 100*block+99)
				}
			}
		})
	}
}

package plots

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"unicode"

	"github.com/rivo/uniseg"
	"golang.org/x/image/font/opentype"
	"golang.org/x/image/font/sfnt"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"

	"clipinspector/internal/printable"
)

// letters draws text of any script. In SVG text stays text and the viewer's fonts serve. In PNG a
// letter that Liberation lacks is taken from the fonts of the machine, and where those lack it, or
// its script joins or turns letters, which is not done here, written as \u65e5: nothing vanishes.
type letters struct{ text.Plain }

// Lines implements text.Handler: a name is one line whatever is in it.
func (h letters) Lines(txt string) []string { return []string{txt} }

// Box implements text.Handler.
func (h letters) Box(txt string, f font.Font) (width, height, depth vg.Length) {
	_, height, depth = h.Plain.Box("", f)
	for _, p := range h.pieces(txt, f) {
		width += p.face.Width(p.text)
	}
	return width, height, depth
}

// Draw implements text.Handler.
func (h letters) Draw(c vg.Canvas, txt string, s text.Style, at vg.Point) {
	for {
		if inner, ok := c.(draw.Canvas); ok {
			c = inner.Canvas
		} else if inner, ok := c.(*draw.Canvas); ok {
			c = inner.Canvas
		} else {
			break
		}
	}
	pieces := h.pieces(txt, s.Font)
	if _, svg := c.(*vgsvg.Canvas); svg {
		pieces = []piece{{h.Fonts.Lookup(s.Font, s.Font.Size), printable.Text(txt)}}
	}
	if len(pieces) == 1 {
		s.Handler = h.Plain
		for i := range pieces {
			h.Plain.Draw(c, pieces[i].text, s, at)
		}
		return
	}
	// The pieces lie beside each other from where the whole begins.
	width, _, _ := h.Box(txt, s.Font)
	c.Push()
	c.Translate(at)
	c.Rotate(s.Rotation)
	x := width * vg.Length(s.XAlign)
	s.Rotation, s.XAlign = 0, text.XLeft
	y := vg.Length(s.YAlign) * s.Font.Size * 0.93 // the part of the size above and below the baseline that gonum counts
	c.SetColor(s.Color)
	for _, p := range pieces {
		c.FillString(p.face, vg.Point{X: x, Y: y}, p.text)
		x += p.face.Width(p.text)
	}
	c.Pop()
}

// piece is a run of letters of one font.
type piece struct {
	face font.Face
	text string
}

func (h letters) pieces(txt string, f font.Font) (out []piece) {
	own := h.Fonts.Lookup(f, f.Size)
	put := func(face font.Face, s string) {
		if n := len(out); n > 0 && out[n-1].face.Face == face.Face {
			out[n-1].text += s
			return
		}
		out = append(out, piece{face, s})
	}
	for _, r := range printable.Text(txt) {
		switch other := (*opentype.Font)(nil); {
		case has(own.Face, r):
			put(own, string(r))
		case r == '\u200c' || r == '\u200d' || unicode.Is(unicode.Variation_Selector, r): // draw nothing
		default:
			if other = fallback(r); other != nil {
				put(font.Face{Font: own.Font, Face: other}, string(r))
			} else if r < 0x10000 {
				put(own, fmt.Sprintf(`\u%04x`, r))
			} else {
				put(own, fmt.Sprintf(`\U%x`, r))
			}
		}
	}
	return out
}

func has(f *opentype.Font, r rune) bool {
	var b sfnt.Buffer
	i, err := f.GlyphIndex(&b, r)
	return err == nil && i != 0
}

// shaped are the scripts whose letters join, turn or move.
var shaped = []*unicode.RangeTable{unicode.Arabic, unicode.Hebrew, unicode.Syriac, unicode.Thaana, unicode.Nko, unicode.Devanagari,
	unicode.Bengali, unicode.Gurmukhi, unicode.Gujarati, unicode.Oriya, unicode.Tamil, unicode.Telugu, unicode.Kannada, unicode.Malayalam,
	unicode.Sinhala, unicode.Khmer, unicode.Myanmar, unicode.Tibetan, unicode.Mongolian, unicode.Thai, unicode.Lao}

var machine struct {
	sync.Mutex
	once  sync.Once
	paths []string
	fonts []*opentype.Font        // of the paths looked at so far
	of    map[rune]*opentype.Font // nil for none
}

// maxFont is the size of the largest font file that is looked at.
const maxFont = 64 << 20

// fallback finds a font of the machine that has a letter; nil for none.
func fallback(r rune) *opentype.Font {
	if unicode.In(r, shaped...) {
		return nil
	}
	m := &machine
	m.Lock()
	defer m.Unlock()
	m.once.Do(func() {
		m.of = map[rune]*opentype.Font{}
		home, _ := os.UserHomeDir() // none: then its folders are not there
		for _, root := range []string{"/usr/share/fonts", "/usr/local/share/fonts", filepath.Join(home, ".local/share/fonts"),
			filepath.Join(home, ".fonts"), "/Library/Fonts", "/System/Library/Fonts"} {
			_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error { // what cannot be read is no font
				if err == nil && d.Type().IsRegular() && slices.Contains([]string{".ttf", ".otf", ".ttc"}, strings.ToLower(filepath.Ext(path))) {
					m.paths = append(m.paths, path)
				}
				return nil
			})
		}
		slices.SortStableFunc(m.paths, func(a, b string) int { return plainness(a) - plainness(b) })
	})
	if f, ok := m.of[r]; ok {
		return f
	}
	for _, f := range m.fonts {
		if has(f, r) {
			m.of[r] = f
			return f
		}
	}
	for len(m.paths) > 0 {
		path := m.paths[0]
		m.paths = m.paths[1:]
		f := load(path)
		if f == nil {
			continue
		}
		m.fonts = append(m.fonts, f)
		if has(f, r) {
			m.of[r] = f
			return f
		}
	}
	m.of[r] = nil
	return nil
}

// plainness puts upright sans fonts of normal weight first.
func plainness(path string) (n int) {
	name := strings.ToLower(filepath.Base(path))
	for _, odd := range []string{"bold", "italic", "oblique", "mono", "serif", "light", "thin", "black", "condensed", "cursive"} {
		if strings.Contains(name, odd) {
			n++
		}
	}
	if !strings.Contains(name, "sans") {
		n++
	}
	return n
}

func load(path string) *opentype.Font {
	if info, err := os.Stat(path); err != nil || info.Size() > maxFont {
		return nil
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	if strings.EqualFold(filepath.Ext(path), ".ttc") {
		c, err := opentype.ParseCollection(raw)
		if err != nil {
			return nil
		}
		f, err := c.Font(0)
		if err != nil {
			return nil
		}
		return f
	}
	f, err := opentype.Parse(raw)
	if err != nil {
		return nil
	}
	return f
}

// shortened is a text cut in its middle until it is not wider than w: both ends of a name tell it
// from others.
func shortened(s text.Style, w vg.Length, txt string) string {
	if s.Width(txt) <= w {
		return txt
	}
	var clusters []string
	for g := uniseg.NewGraphemes(txt); g.Next() && len(clusters) < 4096; {
		clusters = append(clusters, g.Str())
	}
	cut := func(n int) string {
		return strings.Join(clusters[:(n+1)/2], "") + "…" + strings.Join(clusters[len(clusters)-n/2:], "")
	}
	low, high := 0, len(clusters)-1
	for low < high {
		if mid := (low + high + 1) / 2; s.Width(cut(mid)) <= w {
			low = mid
		} else {
			high = mid - 1
		}
	}
	return cut(low)
}

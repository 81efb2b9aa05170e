package plots

import (
	"bytes"
	"fmt"
	"image/color"
	"io"
	"math"
	"path/filepath"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgimg"
	"gonum.org/v1/plot/vg/vgsvg"

	"clipinspector/internal/files"
)

// Figure is a picture that is ready to be drawn.
type Figure struct {
	Name    string // of its files, without their endings
	Title   string
	Caption string // what is shown, in a sentence or two
	Photos  bool   // whether it holds pictures: their colours must not be changed

	width, height vg.Length
	paint         func(c draw.Canvas) // below title and caption
}

// dpi is the resolution of PNG files.
const dpi = 144

// margin is the white space around a picture.
const margin = vg.Length(8)

// draw paints the whole picture.
func (f *Figure) draw(c draw.Canvas) {
	c.SetColor(color.White)
	c.Fill(c.Rectangle.Path())
	c = draw.Crop(c, margin, -margin, margin, -margin)
	large := style(12, true)
	c.FillText(large, vg.Point{X: c.Min.X, Y: c.Max.Y}, shortened(large, c.Max.X-c.Min.X, f.Title))
	top := large.Height(f.Title) + 4
	small := style(8.5, false)
	for _, line := range wrap(small, c.Max.X-c.Min.X, f.Caption) {
		c.FillText(small, vg.Point{X: c.Min.X, Y: c.Max.Y - top}, line)
		top += small.Font.Size * 1.25
	}
	f.paint(draw.Crop(c, 0, 0, 0, -top-6))
}

// WritePNG writes the picture as PNG at 144 dots an inch.
func (f *Figure) WritePNG(w io.Writer) error {
	c := vgimg.PngCanvas{Canvas: vgimg.NewWith(vgimg.UseWH(f.width, f.height), vgimg.UseDPI(dpi))}
	f.draw(draw.New(c))
	_, err := c.WriteTo(w)
	return err
}

// WriteSVG writes the picture as SVG. Fonts are named, with a substitute, and not embedded.
func (f *Figure) WriteSVG(w io.Writer) error {
	c := vgsvg.New(f.width, f.height)
	f.draw(draw.New(c))
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return err
	}
	out := bytes.ReplaceAll(b.Bytes(), []byte("font-family:Liberation Sans;"), []byte("font-family:"+fonts+";"))
	// The library embeds PNG and calls it JPEG.
	out = bytes.ReplaceAll(out, []byte("data:image/jpg;base64,"), []byte("data:image/png;base64,"))
	_, err := w.Write(out)
	return err
}

// Write writes NAME.png and NAME.svg into a folder that exists, and returns their paths.
func (f *Figure) Write(folder string) ([]string, error) {
	base := filepath.Join(folder, f.Name)
	for _, kind := range []struct {
		path  string
		write func(io.Writer) error
	}{{base + ".png", f.WritePNG}, {base + ".svg", f.WriteSVG}} {
		if err := files.WriteAtomic(kind.path, kind.write); err != nil {
			return nil, fmt.Errorf("drawing %s: %w", f.Name, err)
		}
	}
	return []string{base + ".png", base + ".svg"}, nil
}

// key is one entry of a legend.
type key struct {
	name string
	mark plot.Thumbnailer
}

const thumbnail = vg.Length(26)

// legend draws keys in lines at the top of c and returns what is left below them.
func legend(c draw.Canvas, keys []key) draw.Canvas {
	s := style(8.5, false)
	s.YAlign = text.YCenter
	const line = vg.Length(15)
	x, y := c.Min.X, c.Max.Y-line/2
	for _, k := range keys {
		k.name = shortened(s, 3*longest, k.name)
		w := thumbnail + 5 + s.Width(k.name) + 14
		if x > c.Min.X && x+w > c.Max.X {
			x, y = c.Min.X, y-line
		}
		at := draw.Canvas{Canvas: c.Canvas, Rectangle: vg.Rectangle{Min: vg.Point{X: x, Y: y - 6}, Max: vg.Point{X: x + thumbnail, Y: y + 4}}}
		k.mark.Thumbnail(&at)
		c.FillText(s, vg.Point{X: x + thumbnail + 5, Y: y}, k.name)
		x += w
	}
	if len(keys) == 0 {
		return c
	}
	return draw.Crop(c, 0, 0, 0, y-line/2-4-c.Max.Y)
}

// heading is the room above a panel for its title.
const heading = vg.Length(15)

// grid draws panels in rows of equal size with their axes aligned; nil leaves a gap.
func grid(c draw.Canvas, panels []*plot.Plot, columns int) {
	rows := (len(panels) + columns - 1) / columns
	table, titles := make([][]*plot.Plot, rows), make([][]string, rows)
	for r := range table {
		table[r], titles[r] = make([]*plot.Plot, columns), make([]string, columns)
		copy(table[r], panels[r*columns:min(len(panels), (r+1)*columns)])
		for i, p := range table[r] {
			if p != nil { // titles are drawn here: gonum moves them by what labels of the axis need
				titles[r][i], p.Title.Text = p.Title.Text, ""
			}
		}
	}
	tiles := draw.Tiles{Rows: rows, Cols: columns, PadX: 14, PadY: 10 + heading, PadTop: heading, PadRight: 6}
	if len(panels) == 1 && titles[0][0] == "" {
		tiles.PadTop = 4
	}
	for r, row := range plot.Align(table, tiles, c) {
		for i, at := range row {
			p := table[r][i]
			if p == nil {
				continue
			}
			p.Draw(at)
			s, data := style(9.5, true), p.DataCanvas(at)
			p.Title.Text = titles[r][i] // for the next time
			s.XAlign, s.YAlign = text.XCenter, text.YBottom
			c.FillText(s, vg.Point{X: data.Center().X, Y: data.Max.Y + 6}, shortened(s, at.Max.X-at.Min.X, titles[r][i]))
		}
	}
}

// panels makes a figure of panels with a legend above them; size is that of one panel.
func panels(f *Figure, keys []key, plots []*plot.Plot, columns int, width, height vg.Length) *Figure {
	columns = min(columns, len(plots))
	rows := (len(plots) + columns - 1) / columns
	f.width = max(width*vg.Length(columns)+2*margin, 5*vg.Inch)
	lines := len(wrap(style(8.5, false), f.width-2*margin, f.Caption))
	f.height = height*vg.Length(rows) + 2*margin + 24 + vg.Length(10.7*float64(lines)) + legendHeight(keys, f.width-2*margin)
	f.paint = func(c draw.Canvas) { grid(legend(c, keys), plots, columns) }
	return f
}

func legendHeight(keys []key, width vg.Length) vg.Length {
	if len(keys) == 0 {
		return 0
	}
	s, x, lines := style(8.5, false), vg.Length(0), 1.0
	for _, k := range keys {
		k.name = shortened(s, 3*longest, k.name)
		w := thumbnail + 5 + s.Width(k.name) + 14
		if x > 0 && x+w > width {
			x, lines = 0, lines+1
		}
		x += w
	}
	return vg.Length(math.Ceil(15*lines + 4))
}

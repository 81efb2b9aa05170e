package web

import (
	"cmp"
	"fmt"
	"html/template"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// table is a table that its readers sort: by links that the server follows, or at once by the
// script.
type table struct {
	ID      string // short, one for each table of a page
	Caption string
	Columns []column
	Rows    []row
	Many    bool // whether rows beyond the first hundreds are shown only when asked for
}

type column struct {
	Key    string // of the address
	Title  string
	Hint   string
	Number bool // numbers: to the right, and sorted from the largest
}

type row struct {
	ID      string // anchor; may be empty
	Class   string
	Filter  map[string]string // what the script filters by, in a report
	Verdict []string          // by detector: words that a filter may ask for
	Cells   []cell
}

// cell is one entry. Value is what it is sorted by: a float64 (NaN last) or, where it is nil, the
// text.
type cell struct {
	Text  string
	Value any
	Href  string
	Class string
	Mark  mark
	Bar   *bar
}

// mark says whether a verdict is right, in a sign and in a word for those who hear the page.
type mark string

const (
	right mark = "right"
	wrong mark = "wrong"
)

// bar is a share that is drawn behind a number.
type bar struct {
	From, To float64 // in [0,1]
	At       float64 // of a line, in [0,1]; negative for none
}

// text, number and percentage are common cells.
func text(s string) cell { return cell{Text: s} }

func moment(t time.Time) cell {
	return cell{Text: t.Local().Format("2006-01-02 15:04"), Class: "whole"}
}

func number(x float64, digits int) cell {
	if math.IsNaN(x) {
		return cell{Text: "–", Value: x}
	}
	if math.IsInf(x, 0) {
		return cell{Text: strings.Replace(strconv.FormatFloat(x, 'f', 0, 64), "Inf", "∞", 1), Value: x}
	}
	return cell{Text: strconv.FormatFloat(x, 'f', digits, 64), Value: x}
}

func whole(n int64) cell {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return cell{Text: s, Value: float64(n)}
}

// order is a request to sort: the column's key, and whether the largest comes first.
type order struct {
	key        string
	descending bool
}

// orderOf reads the order of a table from an address: sort-ID=KEY or sort-ID=-KEY.
func orderOf(q url.Values, id string) order {
	key, descending := strings.CutPrefix(q.Get("sort-"+id), "-")
	return order{key, descending}
}

// sort sorts the rows as the address asks. What does not exist comes last either way; equal rows
// keep their order.
func (t *table) sort(o order) {
	i := slices.IndexFunc(t.Columns, func(c column) bool { return c.Key == o.key })
	if i < 0 {
		return
	}
	slices.SortStableFunc(t.Rows, func(a, b row) int {
		x, y := a.Cells[i], b.Cells[i]
		if n, m := x.none(), y.none(); n || m {
			return cmp.Compare(count(n), count(m))
		}
		c := compareCells(x, y)
		if o.descending {
			return -c
		}
		return c
	})
}

func (c cell) none() bool {
	x, ok := c.Value.(float64)
	return ok && math.IsNaN(x) || !ok && (c.Text == "" || c.Text == "–")
}

func compareCells(a, b cell) int {
	x, isX := a.Value.(float64)
	y, isY := b.Value.(float64)
	if isX && isY {
		return cmp.Compare(x, y)
	}
	return strings.Compare(a.Text, b.Text)
}

func count(b bool) int {
	if b {
		return 1
	}
	return 0
}

// HTML writes the table, sorted as the address with the parameters q asks. base is the page's path;
// empty in a report, whose script sorts. It is written by hand, as templates take seconds for
// thousands of rows.
func (t *table) HTML(base string, q url.Values) template.HTML {
	o := orderOf(q, t.ID)
	t.sort(o)
	var b strings.Builder
	many := ""
	if t.Many {
		many = " data-many"
	}
	fmt.Fprintf(&b, `<div class="scroll" role="region" tabindex="0" aria-label="%s"><table id="%s"%s><caption>%[1]s</caption><thead><tr>`,
		esc(t.Caption), esc(t.ID), many)
	for _, c := range t.Columns {
		sorted, next := "none", c.Key
		if c.Number {
			next = "-" + c.Key
		}
		if c.Key == o.key {
			sorted, next = "ascending", "-"+c.Key
			if o.descending {
				sorted, next = "descending", c.Key
			}
		}
		class := ""
		if c.Number {
			class = ` class="n"`
		}
		hint := ""
		if c.Hint != "" {
			hint = fmt.Sprintf(` title="%s"`, esc(c.Hint))
		}
		fmt.Fprintf(&b, `<th scope="col" aria-sort="%s" data-key="%s"%s%s>`, sorted, esc(c.Key), class, hint)
		if base == "" {
			fmt.Fprintf(&b, `<button type="button">%s</button></th>`, esc(c.Title))
			continue
		}
		to := url.Values{}
		for name, values := range q {
			to[name] = values
		}
		to["sort-"+t.ID] = []string{next}
		fmt.Fprintf(&b, `<a href="%s#%s">%s</a></th>`, esc(base+"?"+to.Encode()), esc(t.ID), esc(c.Title))
	}
	b.WriteString("</tr></thead><tbody>\n")
	for _, r := range t.Rows {
		r.write(&b, t.Columns)
	}
	b.WriteString("</tbody></table></div>\n")
	return template.HTML(b.String())
}

func (r row) write(b *strings.Builder, columns []column) {
	b.WriteString("<tr")
	attribute := func(name, value string) {
		if value != "" {
			fmt.Fprintf(b, ` %s="%s"`, name, esc(value))
		}
	}
	attribute("id", r.ID)
	attribute("class", r.Class)
	for _, f := range filters {
		attribute("data-"+f.name, r.Filter[f.name])
	}
	attribute("data-verdict", strings.Join(r.Verdict, " "))
	b.WriteString(">")
	for i, c := range r.Cells {
		tag, scope := "td", ""
		if i == 0 {
			tag, scope = "th", ` scope="row"`
		}
		class := c.Class
		if columns[i].Number {
			class = strings.TrimSpace("n " + class)
		}
		if c.Mark != "" {
			class = strings.TrimSpace(class + " " + string(c.Mark))
		}
		b.WriteString("<" + tag + scope)
		attribute("class", class)
		if x, ok := c.Value.(float64); ok {
			value := ""
			if !math.IsNaN(x) {
				value = strings.Replace(strconv.FormatFloat(x, 'g', -1, 64), "Inf", "Infinity", 1) // as scripts write it
			}
			fmt.Fprintf(b, ` data-v="%s"`, value)
		}
		b.WriteString(">")
		if c.Bar != nil {
			c.Bar.write(b)
		}
		switch c.Mark {
		case right:
			b.WriteString(`<span aria-hidden="true">✓</span><span class="sr">right</span> `)
		case wrong:
			b.WriteString(`<span aria-hidden="true">✗</span><span class="sr">wrong</span> `)
		}
		if c.Href != "" {
			fmt.Fprintf(b, `<a href="%s">%s</a>`, esc(c.Href), esc(c.Text))
		} else {
			b.WriteString(esc(c.Text))
		}
		b.WriteString("</" + tag + ">")
	}
	b.WriteString("</tr>\n")
}

// write draws the bar, which a number beside it says as well.
func (r *bar) write(b *strings.Builder) {
	lo, hi := min(r.From, r.To), max(r.From, r.To)
	fmt.Fprintf(b, `<svg class="bar" aria-hidden="true" viewBox="0 0 100 10" preserveAspectRatio="none"><rect x="%.2f" y="1" width="%.2f" height="8"/>`,
		100*lo, 100*(hi-lo))
	if r.At >= 0 {
		fmt.Fprintf(b, `<line x1="%[1]s" x2="%[1]s" y1="0" y2="10"/>`, strconv.FormatFloat(100*r.At, 'f', 2, 64))
	}
	b.WriteString("</svg>")
}

func esc(s string) string { return template.HTMLEscapeString(s) }

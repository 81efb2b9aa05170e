package plots

import (
	"fmt"
	"image/color"
	"strings"
)

// fonts names what pictures and pages are lettered in, as CSS does.
const fonts = "'Liberation Sans',Arial,Helvetica,sans-serif"

// Tokens are the colours and fonts of the figures as custom properties of CSS, so that pages look
// like them: --ink, --faint, --pale, --fonts, and of the i-th series --line-I and --fill-I.
func Tokens() string {
	var b strings.Builder
	b.WriteString(":root{")
	add := func(name string, c color.Color) {
		r, g, bl, _ := c.RGBA()
		fmt.Fprintf(&b, "--%s:#%02x%02x%02x;", name, r>>8, g>>8, bl>>8)
	}
	add("ink", ink)
	add("faint", faint)
	add("pale", pale)
	for i, s := range looks {
		add(fmt.Sprint("line-", i), s.colour)
		add(fmt.Sprint("fill-", i), s.fill)
	}
	fmt.Fprintf(&b, "--fonts:%s}\n", fonts)
	return b.String()
}

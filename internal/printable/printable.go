// Package printable shows text of strangers as text: in a terminal, a table, a page or a picture.
package printable

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Text is s with everything that does not draw a mark, such as escape sequences, NUL, line ends and
// marks that turn the direction of writing, written as \x1b or \u202e. Joiners stay, which emoji
// and Persian need. Bytes that are not UTF-8 are written as \xff.
func Text(s string) string {
	clean := func(r rune) bool {
		return r != utf8.RuneError && (unicode.IsGraphic(r) || r == '\u200c' || r == '\u200d')
	}
	if !strings.ContainsFunc(s, func(r rune) bool { return !clean(r) }) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch _, n := utf8.DecodeRuneInString(s[i:]); {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case clean(r) || r == utf8.RuneError:
			b.WriteRune(r)
		case r < 0x100:
			fmt.Fprintf(&b, `\x%02x`, r)
		case r < 0x10000:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			fmt.Fprintf(&b, `\U%08x`, r)
		}
	}
	return b.String()
}

// Lines is a text of several lines with each of them as Text writes it.
func Lines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = Text(lines[i])
	}
	return strings.Join(lines, "\n")
}

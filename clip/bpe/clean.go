package bpe

import (
	"html"
	"strings"
	"unicode"
	"unicode/utf8"
)

// clean does what CLIP does to a text before it is split: ftfy, HTML-unescape twice, strip,
// collapse white space, lower-case. doubtful tells that ftfy might have guessed another encoding,
// see [fix].
func clean(text string) (cleaned string, doubtful bool) {
	text, doubtful = fix(strings.ToValidUTF8(text, "\uFFFD"))
	text = unescape(unescape(text))
	text = strings.TrimFunc(text, isPythonSpace)
	var b strings.Builder
	b.Grow(len(text))
	space := false
	for _, r := range text {
		if unicode.IsSpace(r) {
			space = true
			continue
		}
		if space {
			b.WriteByte(' ')
			space = false
		}
		b.WriteRune(r)
	}
	if space {
		b.WriteByte(' ')
	}
	return lower(strings.TrimFunc(b.String(), isPythonSpace)), doubtful
}

// isPythonSpace is Python's str.isspace, which counts the four ASCII separators too. The \s of
// Python's regex module is Unicode's White_Space and does not; it is unicode.IsSpace.
func isPythonSpace(r rune) bool { return unicode.IsSpace(r) || 0x1c <= r && r <= 0x1f }

// unescape replaces character references as Python's html.unescape does. Go's html.UnescapeString
// knows the same names but keeps forbidden code points, wraps around on large numbers and overlooks
// "&#5" without a semicolon, so that numbers are read here.
func unescape(s string) string {
	if !strings.Contains(s, "&") {
		return s
	}
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '&')
		if i < 0 {
			b.WriteString(s)
			return b.String()
		}
		b.WriteString(s[:i])
		s = s[i:]
		if n, ok := numericReference(&b, s); ok {
			s = s[n:]
			continue
		}
		n := 1
		for n < len(s) && n <= 32 && isAlphanumeric(s[n]) {
			n++
		}
		if n < len(s) && s[n] == ';' {
			n++
		}
		b.WriteString(html.UnescapeString(s[:n]))
		s = s[n:]
	}
}

func isAlphanumeric(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
}

// numericReference writes the character that a reference such as &#65; or &#x41 at the start of s
// stands for, and returns the bytes it took.
func numericReference(b *strings.Builder, s string) (int, bool) {
	if len(s) < 3 || s[1] != '#' {
		return 0, false
	}
	base, start := rune(10), 2
	if s[2] == 'x' || s[2] == 'X' {
		base, start = 16, 3
	}
	num, n := rune(0), start
	for ; n < len(s); n++ {
		d := rune(99)
		switch c := s[n]; {
		case '0' <= c && c <= '9':
			d = rune(c - '0')
		case 'a' <= c && c <= 'f':
			d = rune(c-'a') + 10
		case 'A' <= c && c <= 'F':
			d = rune(c-'A') + 10
		}
		if d >= base {
			break
		}
		num = min(num*base+d, unicode.MaxRune+1)
	}
	if n == start {
		return 0, false
	}
	if n < len(s) && s[n] == ';' {
		n++
	}
	switch {
	case num == 0 || num > unicode.MaxRune || 0xd800 <= num && num <= 0xdfff:
		b.WriteRune(utf8.RuneError)
	case 0x80 <= num && num <= 0x9f: // the standard reads these as Windows-1252, and so does Go's package
		b.WriteString(html.UnescapeString(s[:start] + strings.TrimLeft(strings.TrimSuffix(s[start:n], ";"), "0") + ";"))
	case num < 0x20 && num != '\t' && num != '\n' && num != '\f' && num != '\r', num == 0x7f,
		0xfdd0 <= num && num <= 0xfdef, num&0xfffe == 0xfffe: // not characters: dropped
	default:
		b.WriteRune(num)
	}
	return n, true
}

// lower is Python's str.lower: Unicode's full mapping, where the dotted capital I becomes two
// characters and a capital sigma at the end of a word the final small one.
func lower(s string) string {
	if !strings.ContainsAny(s, "İΣ") {
		return strings.ToLower(s)
	}
	rs := []rune(s)
	var b strings.Builder
	for i, r := range rs {
		switch {
		case r == 'İ':
			b.WriteString("i\u0307")
		case r == 'Σ' && finalSigma(rs, i):
			b.WriteRune('ς')
		default:
			b.WriteRune(unicode.ToLower(r))
		}
	}
	return b.String()
}

// finalSigma is Unicode's Final_Sigma condition (Unicode Standard, table 3-17).
func finalSigma(rs []rune, i int) bool {
	j := i - 1
	for j >= 0 && isCaseIgnorable(rs[j]) {
		j--
	}
	if j < 0 || !isCased(rs[j]) {
		return false
	}
	for j = i + 1; j < len(rs) && isCaseIgnorable(rs[j]); {
		j++
	}
	return j == len(rs) || !isCased(rs[j])
}

func isCased(r rune) bool {
	return unicode.In(r, unicode.Lu, unicode.Ll, unicode.Lt, unicode.Other_Lowercase, unicode.Other_Uppercase)
}

func isCaseIgnorable(r rune) bool {
	return unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf, unicode.Lm, unicode.Sk) ||
		strings.ContainsRune("'.:·\u0387\u055f\u05f4\u2018\u2019\u2024\u2027\ufe13\ufe52\ufe55\uff07\uff0e\uff1a", r)
}

// split cuts a cleaned text as CLIP's regular expression does, ignoring case (which lets the long s
// stand for s):
//
//	<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+
func split(text string) []string {
	var words []string
	for len(text) > 0 {
		n := special(text)
		if n == 0 {
			r, size := utf8.DecodeRuneInString(text)
			n = size
			switch {
			case !isOther(r) && !unicode.IsLetter(r) && !unicode.IsNumber(r):
				text = text[n:]
				continue
			case unicode.IsNumber(r):
			case unicode.IsLetter(r):
				n = run(text, unicode.IsLetter)
			default:
				n = run(text, isOther)
			}
		}
		words = append(words, text[:n])
		text = text[n:]
	}
	return words
}

// isOther is the last class of the expression. The combining iota subscript is a mark, but its
// upper case is the letter iota: ignoring case, Python's regex module puts it neither here nor
// among the letters, and so drops it.
func isOther(r rune) bool {
	return !unicode.IsSpace(r) && !unicode.IsLetter(r) && !unicode.IsNumber(r) && r != 0x345
}

// run returns the bytes of the longest start of s whose runes are all in the class.
func run(s string, in func(rune) bool) int {
	for i, r := range s {
		if !in(r) {
			return i
		}
	}
	return len(s)
}

var specials = []string{startOfText, endOfText, "'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}

// special returns the bytes of the special token or contraction that s starts with, or 0.
func special(s string) int {
	if s[0] != '<' && s[0] != '\'' {
		return 0
	}
next:
	for _, p := range specials {
		n := 0
		for _, want := range p {
			got, size := utf8.DecodeRuneInString(s[n:])
			if got != want && !(want == 's' && got == 'ſ') {
				continue next
			}
			n += size
		}
		return n
	}
	return 0
}

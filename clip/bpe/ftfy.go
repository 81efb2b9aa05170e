package bpe

import (
	"bytes"
	"fmt"
	"html"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/language"
	"golang.org/x/text/unicode/norm"
)

// OpenAI's tokenizer hands a text to ftfy (Speer 2019, github.com/rspeer/python-ftfy; 6.3 is what
// tests compare with) before anything else: straight quotes for curly ones, letters for ligatures,
// full-width forms and HTML's character references, NFC for letters and accents apart. All that is
// done here. One step is not: ftfy guesses where text was decoded with the wrong encoding ("cafÃ©")
// and decodes it anew. Where it might, a text is refused; [mojibake] tells, erring on that side.

// fix returns what ftfy.fix_text makes of a text in valid UTF-8, and whether its guesses about
// encodings might have made something else of it.
func fix(text string) (fixed string, doubtful bool) {
	var b strings.Builder
	references := true
	for line := range strings.Lines(text) { // which keeps the newlines, the only line breaks for ftfy
		references = references && !strings.Contains(line, "<")
		line, doubt := fixLine(line, references)
		doubtful = doubtful || doubt
		b.WriteString(line)
	}
	return b.String(), doubtful
}

// fixLine repeats ftfy's steps until they change nothing.
func fixLine(s string, references bool) (fixed string, doubtful bool) {
	for {
		before := s
		if references {
			s = reference.ReplaceAllStringFunc(s, unescapeOne)
		}
		doubtful = doubtful || mojibake(s)
		s = strings.Map(windows, s)
		doubtful = doubtful || mojibake(s)
		s = terminal.ReplaceAllString(simple(s), "")
		s = strings.Map(func(r rune) rune {
			if isControl(r) {
				return -1
			}
			return r
		}, s)
		if s = norm.NFC.String(s); s == before || len(s) > maxTextBytes {
			return s, doubtful
		}
	}
}

var (
	reference = regexp.MustCompile(`&#?[0-9A-Za-z]{1,24};`)
	terminal  = regexp.MustCompile(`\x1b\[[\p{Nd};]*[a-zA-Z]`) // colours and the like
	upper     = cases.Upper(language.Und)
)

// unescapeOne replaces a character reference that ends with a semicolon. Names in capitals stand
// for the capital of the character, where HTML does not know them.
func unescapeOne(s string) string {
	if strings.HasPrefix(s, "&#") {
		if r := unescape(s); !strings.Contains(r, ";") {
			return r
		}
		return s
	}
	if r, ok := entity(s); ok {
		return r
	}
	small := strings.ToLower(s)
	if strings.ToUpper(s) == s && unescape(s) == s {
		if r, ok := entity(small); ok {
			return upper.String(r)
		}
	}
	return s
}

// entity returns what a name with its semicolon stands for, and not what a shorter name before it
// does.
func entity(s string) (string, bool) {
	r := html.UnescapeString(s)
	return r, r != s && (!strings.HasSuffix(r, ";") || s == "&semi;")
}

// windows returns, for a control character of Latin-1, the character of Windows-1252 that was
// meant; where that has none it stays.
func windows(r rune) rune {
	if 0x80 <= r && r < 0xa0 {
		if w := charmap.Windows1252.DecodeByte(byte(r)); w != utf8.RuneError {
			return w
		}
	}
	return r
}

// simple makes the replacements of one character by others, and of line breaks by newlines.
func simple(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	for i, r := range s {
		switch {
		case r < 0x80 && r != '\r', r == utf8.RuneError:
			b.WriteRune(r)
		case r == '\r':
			if !strings.HasPrefix(s[i:], "\r\n") {
				b.WriteByte('\n')
			}
		case r == 0x2028 || r == 0x2029:
			b.WriteByte('\n')
		default:
			b.WriteString(simpleQuote(r))
		}
	}
	return b.String()
}

func simpleQuote(r rune) string {
	switch {
	case r == 'ʼ' || '‘' <= r && r <= '‛':
		return "'"
	case '“' <= r && r <= '‟':
		return `"`
	case r == 0x3000:
		return " "
	case r == 'ŉ': // an apostrophe and n
		return "'n"
	case r == 'ﬅ':
		return "ſt"
	case 0xff01 <= r && r < 0xfff0, 'ﬀ' <= r && r <= 'ﬆ', 'Ǆ' <= r && r <= 'ǌ', 'Ǳ' <= r && r <= 'ǳ', r == 'Ĳ', r == 'ĳ':
		return norm.NFKC.String(string(r))
	}
	return string(r)
}

// isControl tells the characters that ftfy drops.
func isControl(r rune) bool {
	switch {
	case r == '\t' || r == '\n' || r == '\f' || r == '\r':
		return false
	case r < 0x20, r == 0x7f, 0x206a <= r && r <= 0x206f, r == 0xfeff, 0xfff9 <= r && r <= 0xfffc:
		return true
	}
	return false
}

// codings are the single-byte encodings that ftfy suspects: the byte of each character beyond
// ASCII.
var codings = func() []map[rune]byte {
	latin1 := map[rune]byte{}
	for b := 0x80; b <= 0xff; b++ {
		latin1[rune(b)] = byte(b)
	}
	all := []map[rune]byte{latin1}
	for _, c := range []*charmap.Charmap{charmap.Windows1252, charmap.Windows1251, charmap.Windows1250, charmap.Windows1253, charmap.Windows1254,
		charmap.Windows1257, charmap.ISO8859_2, charmap.Macintosh, charmap.CodePage437} {
		m := map[rune]byte{utf8.RuneError: 0x1a} // as ftfy marks what got lost
		for b := 0x80; b <= 0xff; b++ {
			r := c.DecodeByte(byte(b))
			if r == utf8.RuneError {
				r = rune(b)
			}
			m[r] = byte(b)
		}
		all = append(all, m)
	}
	return all
}()

// inCodings are the characters of any of them.
var inCodings = func() map[rune]bool {
	all := map[rune]bool{}
	for _, m := range codings {
		for r := range m {
			all[r] = true
		}
	}
	return all
}()

// mojibake tells whether ftfy might take a text for one in UTF-8 that was decoded with another
// encoding. It does so when neighbours look wrong together and the text, or the part of it where
// they are, is UTF-8 in one of the suspected encodings. Both are judged more strictly here than
// there, so that what passes is what ftfy leaves alone.
func mojibake(s string) bool {
	rs := []rune(s)
	if !slices.ContainsFunc(rs, func(r rune) bool { return r >= 0x80 }) || !strange(rs) {
		return false
	}
	for _, m := range codings {
		whole, begin := true, 0 // of a run of sequences
		for i := 0; i < len(rs); {
			if n := sequence(rs[i:], m); n > 0 {
				i += n
				continue
			}
			if strange(rs[begin:i]) {
				return true
			}
			whole = whole && (rs[i] < 0x80 || rs[i] == utf8.RuneError)
			i++
			begin = i
		}
		if whole || strange(rs[begin:]) {
			return true
		}
	}
	return false
}

// sequence returns how many characters at the start of a text are, as bytes of an encoding, one
// character beyond ASCII of UTF-8, or 0. A space may stand for the byte a0, a substitute or a
// question mark for a byte that got lost.
func sequence(rs []rune, m map[rune]byte) int {
	lead, n := m[rs[0]], 0
	switch {
	case lead == 0xc0 || 0xc2 <= lead && lead <= 0xdf:
		n = 2
	case lead >= 0xe0 && lead <= 0xef:
		n = 3
	case lead >= 0xf0 && lead <= 0xf4:
		n = 4
	}
	if n == 0 || n > len(rs) {
		return 0
	}
	lost := 0
	for _, r := range rs[1:n] {
		b := m[r]
		switch {
		case r == ' ' || r == '?':
			lost++
		case r == 0x1a || b == 0x1a || 0x80 <= b && b <= 0xbf:
		default:
			return 0
		}
	}
	if lost > 1 || lost == 1 && n == 2 && bytes.IndexByte([]byte{0xc2, 0xc3, 0xc5, 0xce, 0xd0, 0xd9}, lead) < 0 {
		return 0
	}
	return n
}

// strange tells whether two neighbours look wrong together. Ordinary are letters beside letters,
// but for a capital that follows a small one; dashes, apostrophes and the like beside anything; an
// opening quotation mark before a letter and a closing one after it; and all that no suspected
// encoding has.
func strange(rs []rune) bool {
	at := func(i int) rune {
		if i < len(rs) {
			return rs[i]
		}
		return 0
	}
	for i, x := range rs {
		y := at(i + 1)
		doubled := strings.ContainsRune("ÂÃÎÐØÙ", x) // what UTF-8 of Latin, Greek, Cyrillic and Arabic begins with
		switch {
		case 0x80 <= x && x < 0xa0:
			return true
		case x < 0x80 || y == 0:
		case (x == 'Â' || x == 'Ã') && y == ' ':
			return true
		case (x == 'Œ' || x == 'œ') && (y >= 0x80 || !unicode.IsLetter(y)):
			return true
		case y < 0x80 || !inCodings[x] || !inCodings[y]:
		case !doubled && (isJoint(x) || isJoint(y)):
		case y == 'Ђ' || doubled && strings.ContainsRune("œŠšŸž", y):
			return true
		case isPlain(x) && isPlain(y) && (unicode.IsUpper(x) || !unicode.IsUpper(y)):
		case (x == '“' || x == '‘') && isPlain(y):
		case isPlain(x) && !doubled && (y == '”' || y == '»') && !isWord(at(i+2)):
		default:
			return true
		}
	}
	return false
}

// isJoint tells what stands between words and parts of words.
func isJoint(r rune) bool { return strings.ContainsRune("–—―…’·´\u00a0\u00ad", r) }

// isPlain tells a letter of an alphabet, and not one that stands for a number or alone.
func isPlain(r rune) bool {
	return unicode.IsLetter(r) && !unicode.Is(unicode.Lm, r) && !strings.ContainsRune("ƒªºµŒœ", r) &&
		unicode.In(r, unicode.Latin, unicode.Greek, unicode.Cyrillic)
}

func isWord(r rune) bool { return unicode.IsLetter(r) || unicode.IsNumber(r) || r == '_' }

// errMojibake says what to do about a text whose tokens cannot be told.
func errMojibake(text string) error {
	return fmt.Errorf("text %.60q looks as if it had been decoded with the wrong encoding, and OpenAI's tokenizer would guess what it was (ftfy): "+
		"write it as it should be", text)
}

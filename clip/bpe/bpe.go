// Package bpe is CLIP's byte-pair tokenizer. It reads and writes CLIP's vocabulary files, learns
// new vocabularies, and turns texts into token ids as OpenAI's clip/simple_tokenizer.py does.
//
// One step of OpenAI's is left out on purpose: ftfy's guesses about text that was decoded with the
// wrong encoding ("cafÃ©"). Where ftfy might guess, [Tokenizer.Tokenize] refuses the text. The rest
// of ftfy is done.
//
// # The file format
//
// It is a text file in UTF-8, plain or gzip. The first line is a header that every reader skips.
// Every further line is a merge: two symbols with a space between, most important first. A symbol
// spells bytes in CLIP's alphabet of 256 printable characters. It ends with "</w>" where it ends a
// word. This is the format of OpenAI's bpe_simple_vocab_16e6.txt.gz and of Hugging Face's
// merges.txt.
//
// The vocabulary is, in order of ids: 256 bytes, 256 bytes that end a word, one symbol for each
// merge, <|startoftext|> and <|endoftext|>.
//
// How many merges does a file mean? If its header has a number after "merges=", which [Write] puts
// there, it is that number. Otherwise it is all of them, but at most 48,894: OpenAI's file holds
// 262,145, of which CLIP uses the first 48,894 (49,408 tokens).
package bpe

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"

	"clipinspector/internal/files"
)

const (
	startOfText = "<|startoftext|>"
	endOfText   = "<|endoftext|>"
	endOfWord   = "</w>"

	clipMerges   = 49152 - 256 - 2 // of CLIP's own vocabulary
	maxMerges    = 1 << 20
	maxFileBytes = 64 << 20 // decompressed
	maxLineBytes = 4096
	maxTextBytes = 64 << 10 // of a text given to Tokenize
	maxCached    = 1 << 16  // words whose ids are remembered
)

// Tokenizer turns texts into ids and back. It is safe for concurrent use. The zero value is not
// usable; get one from [Read], [ReadFile] or [Learn].
type Tokenizer struct {
	merges  [][2]string
	symbols []string         // by id
	ids     map[string]int32 // of a symbol; the last one where two merges spell the same, as in OpenAI's
	ranks   map[[2]int32]int // of a pair of ids

	mu    sync.RWMutex
	cache map[string][]int32
}

// alphabet maps a byte to the printable character that stands for it, and back.
var alphabet, alphabetBytes = func() (enc [256]rune, dec map[rune]byte) {
	dec = make(map[rune]byte, 256)
	other := rune(256)
	for b := range 256 {
		r := rune(b)
		if !('!' <= r && r <= '~' || '¡' <= r && r <= '¬' || '®' <= r && r <= 'ÿ') {
			r = other
			other++
		}
		enc[b], dec[r] = r, byte(b)
	}
	return enc, dec
}()

func newTokenizer(merges [][2]string) (*Tokenizer, error) {
	t := &Tokenizer{
		merges:  merges,
		symbols: make([]string, 0, 514+len(merges)),
		ids:     make(map[string]int32, 514+len(merges)),
		ranks:   make(map[[2]int32]int, len(merges)),
		cache:   map[string][]int32{},
	}
	// The bytes in the order of OpenAI's: those that stand for themselves first.
	for r := rune(0); r < 512; r++ {
		if b, ok := alphabetBytes[r]; ok && alphabet[b] == r {
			t.symbols = append(t.symbols, string(r))
		}
	}
	for _, s := range t.symbols[:256] {
		t.symbols = append(t.symbols, s+endOfWord)
	}
	for id, s := range t.symbols {
		t.ids[s] = int32(id)
	}
	for i, m := range merges {
		for _, s := range m {
			if _, ok := t.ids[s]; !ok {
				return nil, fmt.Errorf("merge %d: the symbol %.60q is neither a byte nor made by a merge before it", i+1, s)
			}
		}
		t.ids[m[0]+m[1]] = int32(len(t.symbols))
		t.symbols = append(t.symbols, m[0]+m[1])
	}
	for _, s := range []string{startOfText, endOfText} {
		t.ids[s] = int32(len(t.symbols))
		t.symbols = append(t.symbols, s)
	}
	for i, m := range merges {
		pair := [2]int32{t.ids[m[0]], t.ids[m[1]]}
		if _, twice := t.ranks[pair]; twice {
			return nil, fmt.Errorf("merge %d: %.60q and %.60q are merged twice", i+1, m[0], m[1])
		}
		t.ranks[pair] = i
	}
	return t, nil
}

var headerMerges = regexp.MustCompile(`\bmerges=(\d+)`)

// Read reads a vocabulary in the format that the package comment describes. The file may come from
// a stranger: more than 64 MiB after decompression, a line over 4,096 bytes, more than 1,048,576
// merges, or a merge that is not two known symbols is an error that says where. Lines after the
// last merge that counts are not looked at.
func Read(r io.Reader) (*Tokenizer, error) {
	br := bufio.NewReader(r)
	if magic, _ := br.Peek(2); bytes.Equal(magic, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(br)
		if err != nil {
			return nil, fmt.Errorf("BPE vocabulary: gzip: %w", err)
		}
		defer z.Close()
		r = z
	} else {
		r = br
	}
	limited := &io.LimitedReader{R: r, N: maxFileBytes + 1}
	sc := bufio.NewScanner(limited)
	sc.Buffer(make([]byte, 0, maxLineBytes), maxLineBytes)
	failed := func(line int) error {
		switch err := sc.Err(); {
		case limited.N <= 0:
			return fmt.Errorf("BPE vocabulary: larger than %d MiB", maxFileBytes>>20)
		case errors.Is(err, bufio.ErrTooLong):
			return fmt.Errorf("BPE vocabulary: line %d is longer than %d bytes", line, maxLineBytes)
		case err != nil:
			return fmt.Errorf("BPE vocabulary: line %d: %w", line, err)
		}
		return nil
	}
	if !sc.Scan() {
		if err := failed(1); err != nil {
			return nil, err
		}
		return nil, errors.New("BPE vocabulary: empty file; want a header line and one merge a line")
	}
	want, declared := clipMerges, false
	if m := headerMerges.FindSubmatch(sc.Bytes()); m != nil {
		n, err := strconv.Atoi(string(m[1]))
		if err != nil || n > maxMerges {
			return nil, fmt.Errorf("BPE vocabulary: header says %.30s merges; at most %d are allowed", m[1], maxMerges)
		}
		want, declared = n, true
	}
	var merges [][2]string
	for line := 2; len(merges) < want; line++ {
		if !sc.Scan() {
			if err := failed(line); err != nil {
				return nil, err
			}
			break
		}
		text := sc.Text()
		a, b, ok := strings.Cut(text, " ")
		if !ok || a == "" || b == "" || strings.ContainsAny(b, " \t\r") || !utf8.ValidString(text) {
			return nil, fmt.Errorf("BPE vocabulary: line %d: %.60q is not two symbols with a space between", line, text)
		}
		merges = append(merges, [2]string{a, b})
	}
	if limited.N <= 0 {
		return nil, failed(0)
	}
	if declared && len(merges) < want {
		return nil, fmt.Errorf("BPE vocabulary: header says %d merges, the file has %d; it is cut short", want, len(merges))
	}
	t, err := newTokenizer(merges)
	if err != nil {
		return nil, fmt.Errorf("BPE vocabulary: %w", err)
	}
	return t, nil
}

// ReadFile is [Read] of a file; errors name it.
func ReadFile(path string) (*Tokenizer, error) {
	f, err := files.Open(path)
	if err != nil {
		return nil, fmt.Errorf("BPE vocabulary: %w", err)
	}
	defer f.Close()
	t, err := Read(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return t, nil
}

// Write writes the vocabulary as plain text, with the number of merges in the header. There is no
// newline at the end, since OpenAI's reader would take what follows it for one more merge.
func (t *Tokenizer) Write(w io.Writer) error {
	bw := bufio.NewWriter(w)
	fmt.Fprintf(bw, "#version: 0.2 merges=%d", len(t.merges))
	for _, m := range t.merges {
		bw.WriteString("\n" + m[0] + " " + m[1])
	}
	if err := bw.Flush(); err != nil {
		return fmt.Errorf("writing the BPE vocabulary: %w", err)
	}
	return nil
}

// WriteVocab writes Hugging Face's vocab.json, an object from symbol to id in order of ids.
// Together with what [Write] writes, as merges.txt, it serves transformers' CLIPTokenizer, as long
// as there are at most 48,894 merges.
func (t *Tokenizer) WriteVocab(w io.Writer) error {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	sep := byte('{')
	for id, s := range t.symbols {
		if t.ids[s] != int32(id) {
			continue // spelled again by a later merge, which is the one that counts
		}
		b.WriteByte(sep)
		sep = ','
		if err := enc.Encode(s); err != nil {
			return fmt.Errorf("writing vocab.json: %w", err)
		}
		b.Truncate(b.Len() - 1) // Encode's newline
		fmt.Fprintf(&b, ":%d", id)
	}
	b.WriteString("}\n")
	if _, err := w.Write(b.Bytes()); err != nil {
		return fmt.Errorf("writing vocab.json: %w", err)
	}
	return nil
}

// Size returns the number of tokens, 514 more than there are merges; ids are in [0, Size).
func (t *Tokenizer) Size() int { return len(t.symbols) }

// SOT returns the id of <|startoftext|>, Size-2.
func (t *Tokenizer) SOT() int { return len(t.symbols) - 2 }

// EOT returns the id of <|endoftext|>, Size-1: the largest, which is how CLIP finds the end of a
// text.
func (t *Tokenizer) EOT() int { return len(t.symbols) - 1 }

// Encode returns the ids of a text, without the start and end tokens. As in OpenAI's, a text that
// spells "<|endoftext|>" gets that token. Bytes that are no UTF-8 count as U+FFFD. One word of n
// bytes may take time in the order of n times the number of merges: texts of strangers go through
// [Tokenizer.Tokenize], which bounds them.
func (t *Tokenizer) Encode(text string) []int {
	ids, _ := t.encode(text)
	return ids
}

func (t *Tokenizer) encode(text string) (ids []int, doubtful bool) {
	text, doubtful = clean(text)
	for _, word := range split(text) {
		for _, id := range t.word(word) {
			ids = append(ids, int(id))
		}
	}
	return ids, doubtful
}

// Tokenize returns exactly length ids: start token, the text, end token, zeros. A text that needs
// more, or that is longer than 64 KiB, or that OpenAI's tokenizer might take for wrongly decoded,
// is an error.
func (t *Tokenizer) Tokenize(text string, length int) ([]int, error) {
	if len(text) > maxTextBytes {
		return nil, fmt.Errorf("text %.40q... has %d bytes; at most %d are allowed", text, len(text), maxTextBytes)
	}
	ids, doubtful := t.encode(text)
	if doubtful {
		return nil, errMojibake(text)
	}
	if len(ids)+2 > length {
		return nil, fmt.Errorf("text %.60q needs %d tokens with start and end; the context has %d", text, len(ids)+2, length)
	}
	out := make([]int, length)
	out[0] = t.SOT()
	copy(out[1:], ids)
	out[1+len(ids)] = t.EOT()
	return out, nil
}

// Decode returns the text that the ids spell, with a space after each word as OpenAI's does. Ids
// outside the vocabulary and bytes that are no UTF-8 become U+FFFD.
func (t *Tokenizer) Decode(ids []int) string {
	var b []byte
	for _, id := range ids {
		if id < 0 || id >= len(t.symbols) {
			b = append(b, "\uFFFD"...)
			continue
		}
		for _, r := range t.symbols[id] {
			b = append(b, alphabetBytes[r])
		}
	}
	return strings.ReplaceAll(string([]rune(string(b))), endOfWord, " ")
}

// word returns the ids of one piece of a split text.
func (t *Tokenizer) word(word string) []int32 {
	if word == startOfText || word == endOfText {
		return []int32{t.ids[word]}
	}
	t.mu.RLock()
	ids, ok := t.cache[word]
	t.mu.RUnlock()
	if ok {
		return ids
	}
	ids = make([]int32, len(word))
	for i := range len(word) {
		s := string(alphabet[word[i]])
		if i == len(word)-1 {
			s += endOfWord
		}
		ids[i] = t.ids[s]
	}
	for len(ids) > 1 {
		// The most important pair, then all its occurrences from left to right.
		best, pair := len(t.merges), [2]int32{}
		for i := range len(ids) - 1 {
			p := [2]int32{ids[i], ids[i+1]}
			if rank, ok := t.ranks[p]; ok && rank < best {
				best, pair = rank, p
			}
		}
		if best == len(t.merges) {
			break
		}
		ids = mergePair(ids, pair, t.ids[t.symbols[512+best]])
	}
	t.mu.Lock()
	if len(t.cache) < maxCached && len(word) <= 256 {
		t.cache[strings.Clone(word)] = ids
	}
	t.mu.Unlock()
	return ids
}

// mergePair replaces, in place, the occurrences of a pair from left to right by one symbol.
func mergePair(ids []int32, pair [2]int32, by int32) []int32 {
	n := 0
	for i := 0; i < len(ids); i++ {
		id := ids[i]
		if id == pair[0] && i+1 < len(ids) && ids[i+1] == pair[1] {
			id = by
			i++
		}
		ids[n] = id
		n++
	}
	return ids[:n]
}

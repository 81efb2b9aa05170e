package bpe

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// readCLIP reads CLIP's own vocabulary, which is no part of the repository.
func readCLIP(t testing.TB) *Tokenizer {
	dir := cmp.Or(os.Getenv("CLIPINSPECTOR_DATA"), "../../data") // the project's folder data
	path := filepath.Join(dir, "clip-vocab", "bpe_simple_vocab_16e6.txt.gz")
	if _, err := os.Stat(path); err != nil {
		t.Skipf("no CLIP vocabulary: %v; set CLIPINSPECTOR_DATA to the folder that has clip-vocab", err)
	}
	tok, err := ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return tok
}

func TestCLIPVectors(t *testing.T) {
	tok := readCLIP(t)
	if tok.Size() != 49408 || tok.SOT() != 49406 || tok.EOT() != 49407 {
		t.Fatalf("size %d, SOT %d, EOT %d", tok.Size(), tok.SOT(), tok.EOT())
	}
	for text, want := range map[string][]int{
		"a photo of a":       {49406, 320, 1125, 539, 320, 49407},
		"a photo of a face.": {49406, 320, 1125, 539, 320, 1710, 269, 49407},
		"X X X X face.":      {49406, 343, 343, 343, 343, 1710, 269, 49407},
		"a photo of a 2000 AM General Hummer SUV.": {49406, 320, 1125, 539, 320, 273, 271, 271, 271, 687, 3658, 845, 7508,
			15985, 269, 49407},
		"Boeing 707-320": {49406, 11857, 278, 271, 278, 268, 274, 273, 271, 49407},
	} {
		got, err := tok.Tokenize(text, 77)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got[:len(want)], want) || len(got) != 77 || slices.Max(got[len(want):]) != 0 {
			t.Errorf("%q: got %v, want %v and zeros", text, got, want)
		}
		if _, err := tok.Tokenize(text, len(want)); err != nil {
			t.Errorf("%q does not fit exactly: %v", text, err)
		}
		if _, err := tok.Tokenize(text, len(want)-1); err == nil {
			t.Errorf("%q fits in one token too few", text)
		}
	}
}

var captions = []string{"a photo of a cat", "a photo of a dog", "a photo of a red square", "Red &amp; blue circle, don't!", "ΑΒΓ 42"}

func TestLearnWriteRead(t *testing.T) {
	tok := Learn(captions, 25)
	if tok.Size() != 514+25 {
		t.Fatalf("size %d", tok.Size())
	}
	// "h o", "o t", "p h" and "t o</w>" occur three times each: the first has the smallest ids.
	if got := tok.merges[0]; got != [2]string{"h", "o"} {
		t.Errorf("first merge %q", got)
	}
	var plain bytes.Buffer
	if err := tok.Write(&plain); err != nil {
		t.Fatal(err)
	}
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	z.Write(plain.Bytes())
	z.Close()
	for range 5 { // maps are walked in another order each time
		var again bytes.Buffer
		Learn(captions, 25).Write(&again)
		if !bytes.Equal(again.Bytes(), plain.Bytes()) {
			t.Fatal("learning is not deterministic")
		}
	}
	for _, data := range [][]byte{plain.Bytes(), zipped.Bytes(), append(bytes.Clone(plain.Bytes()), '\n')} {
		got, err := Read(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(got.symbols, tok.symbols) {
			t.Fatal("a different vocabulary came back")
		}
		for _, c := range captions {
			ids := got.Encode(c)
			if !slices.Equal(ids, tok.Encode(c)) {
				t.Errorf("%q: other ids", c)
			}
			if text := got.Decode(ids); strings.ReplaceAll(text, " ", "") != strings.ReplaceAll(first(clean(c)), " ", "") {
				t.Errorf("%q decodes to %q", c, text)
			}
		}
	}
	// "photo" and "a" occur most often: with enough merges every word is one token.
	all := Learn(captions, 1000)
	if n := len(all.Encode("a photo of a cat")); n != 5 {
		t.Errorf("5 known words became %d tokens", n)
	}
	if Learn(nil, 10).Size() != 514 || Learn(captions, -1).Size() != 514 {
		t.Error("nothing to learn should leave the bytes")
	}
}

func TestRefusals(t *testing.T) {
	for name, c := range map[string]struct{ file, want string }{
		"empty":      {"", "empty"},
		"one symbol": {"#\na", "line 2"},
		"three":      {"#\na b c", "line 2"},
		"blank line": {"#\na b\n\nc d", "line 3"},
		"unknown":    {"#\na bc", "neither a byte"},
		"not UTF-8":  {"#\na \xff", "line 2"},
		"twice":      {"#\na b\na b", "twice"},
		"cut short":  {"# merges=3\na b", "cut short"},
		"too many":   {"# merges=99999999999999999999\na b", "at most"},
		"long line":  {"#\n" + strings.Repeat("a", maxLineBytes) + " b", "longer than"},
		"bad gzip":   {"\x1f\x8bxx", "gzip"},
	} {
		if _, err := Read(strings.NewReader(c.file)); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got error %v, want one with %q", name, err, c.want)
		}
	}
	// A bomb: 65 MiB of the letter a in some 64 KiB of gzip.
	var bomb bytes.Buffer
	z := gzip.NewWriter(&bomb)
	z.Write([]byte("# merges=1000000\n"))
	line := []byte(strings.Repeat("a", 4000) + "\n")
	for range maxFileBytes/len(line) + 1000 {
		z.Write(line)
	}
	z.Close()
	if _, err := Read(&bomb); err == nil {
		t.Error("a bomb was accepted")
	}
	tok := Learn(nil, 0)
	if _, err := tok.Tokenize(strings.Repeat("a ", 1<<20), 1<<30); err == nil {
		t.Error("a text of 2 MiB was accepted")
	}
	if got := tok.Decode([]int{-1, 1 << 40}); got != "\uFFFD\uFFFD" {
		t.Errorf("unknown ids decode to %q", got)
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte("#version: 0.2\nt h\nth e</w>"), "The cat &amp; 'the' dog")
	f.Add([]byte("# merges=1\na a"), "aaaa \xff <|endoftext|>")
	f.Add([]byte("\x1f\x8b\x08\x00"), "")
	f.Fuzz(func(t *testing.T, file []byte, text string) {
		tok, err := Read(bytes.NewReader(file))
		if err != nil {
			return
		}
		var b bytes.Buffer
		if err := tok.Write(&b); err != nil {
			t.Fatal(err)
		}
		again, err := Read(&b)
		if err != nil {
			t.Fatalf("what was written is refused: %v", err)
		}
		if !slices.Equal(again.symbols, tok.symbols) {
			t.Fatal("writing changes the vocabulary")
		}
		ids := tok.Encode(text)
		for _, id := range ids {
			if id < 0 || id >= tok.Size() {
				t.Fatalf("id %d out of range", id)
			}
		}
		if !slices.Equal(ids, again.Encode(text)) {
			t.Fatal("ids change")
		}
		tok.Decode(ids)
	})
}

func BenchmarkEncode(b *testing.B) {
	tok := readCLIP(b)
	for b.Loop() {
		tok.Encode("a photo of a 2000 AM General Hummer SUV, a type of car.")
	}
}

package bpe

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// hfTokenizer is a vocabulary as transformers 5 writes it; pairs tells how merges are written.
func hfTokenizer(t testing.TB, tok *Tokenizer, pairs bool, change func(file map[string]any)) []byte {
	t.Helper()
	var merges []any
	for _, m := range tok.merges {
		if pairs {
			merges = append(merges, m[:])
		} else {
			merges = append(merges, m[0]+" "+m[1])
		}
	}
	vocab := map[string]any{}
	for s, id := range tok.ids {
		vocab[s] = id
	}
	special := func(s string) map[string]any {
		return map[string]any{"id": tok.ids[s], "content": s, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true}
	}
	file := map[string]any{
		"version": "1.0", "truncation": nil, "padding": nil, "added_tokens": []any{special(startOfText), special(endOfText)},
		"normalizer": map[string]any{"type": "Sequence", "normalizers": []any{map[string]any{"type": "NFC"},
			map[string]any{"type": "Replace", "pattern": map[string]any{"Regex": `\s+`}, "content": " "}, map[string]any{"type": "Lowercase"}}},
		"pre_tokenizer": map[string]any{"type": "Sequence", "pretokenizers": []any{
			map[string]any{"type": "Split", "pattern": map[string]any{"Regex": clipSplit}, "behavior": "Removed", "invert": true},
			map[string]any{"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}}},
		"post_processor": map[string]any{"type": "RobertaProcessing", "sep": []any{endOfText, tok.EOT()}, "cls": []any{startOfText, tok.SOT()},
			"trim_offsets": false, "add_prefix_space": false},
		"decoder": nil,
		"model": map[string]any{"type": "BPE", "dropout": nil, "unk_token": endOfText, "continuing_subword_prefix": "", "end_of_word_suffix": endOfWord,
			"fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocab, "merges": merges},
	}
	if change != nil {
		change(file)
	}
	raw, err := json.Marshal(file)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestTokenizerJSON(t *testing.T) {
	tok, err := ReadFile("testdata/learned.txt")
	if err != nil {
		t.Fatal(err)
	}
	for _, pairs := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "tokenizer.json")
		if err := os.WriteFile(path, hfTokenizer(t, tok, pairs, nil), 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := ReadTokenizerJSON(path)
		if err != nil {
			t.Fatal(err)
		}
		if !got.Equal(tok) || got.Size() != tok.Size() {
			t.Error("another vocabulary came back")
		}
	}
	model := func(key string, value any) func(file map[string]any) {
		return func(file map[string]any) { file["model"].(map[string]any)[key] = value }
	}
	for want, change := range map[string]func(file map[string]any){
		"model.type":                model("type", "Unigram"),
		"end_of_word_suffix":        model("end_of_word_suffix", nil),
		"continuing_subword_prefix": model("continuing_subword_prefix", "##"),
		"dropout":                   model("dropout", 0.1),
		"byte_fallback":             model("byte_fallback", true),
		"not two symbols":           model("merges", []string{"a b c"}),
		"neither a byte nor":        model("merges", []string{"zz qq"}),
		"by the merges it is":       model("merges", []string{}),
		"that no merge makes":       func(file map[string]any) { file["model"].(map[string]any)["vocab"].(map[string]any)["zzz"] = 5000 },
		"pre_tokenizer":             func(file map[string]any) { file["pre_tokenizer"] = map[string]any{"type": "Whitespace"} },
		"has the number": func(file map[string]any) {
			v := file["model"].(map[string]any)["vocab"].(map[string]any)
			v["a"], v["b"] = v["b"], v["a"]
		},
		"added_tokens": func(file map[string]any) {
			file["added_tokens"] = []any{map[string]any{"id": tok.Size(), "content": "<new>"}}
		},
	} {
		if _, err := fromJSON(hfTokenizer(t, tok, false, change)); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("got error %v, want one with %q", err, want)
		}
	}
}

// The library that made the format gives the same ids for names as people write them.
// CLIPINSPECTOR_PYTHON names an interpreter with tokenizers.
func TestTokenizersLibraryAgrees(t *testing.T) {
	python := os.Getenv("CLIPINSPECTOR_PYTHON")
	if python == "" || exec.Command(python, "-c", "import tokenizers").Run() != nil {
		t.Skip("CLIPINSPECTOR_PYTHON names no interpreter with tokenizers")
	}
	tok, err := ReadFile("testdata/learned.txt")
	if err != nil {
		t.Fatal(err)
	}
	names := []string{"a photo of a Siamese cat.", "Boeing 707-320", "F-16A/B", "colt's foot", "jack-o'-lantern", "café", "2000 AM General Hummer SUV",
		"Пётр", "猫", "🐱 cat", "x  y", "don't"}
	for _, pairs := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "tokenizer.json")
		if err := os.WriteFile(path, hfTokenizer(t, tok, pairs, nil), 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := exec.Command(python, slices.Concat([]string{"-c", `
import sys, tokenizers
t = tokenizers.Tokenizer.from_file(sys.argv[1])
for name in sys.argv[2:]: print(*t.encode(name).ids)`, path}, names)...).CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for i, line := range strings.Split(strings.TrimSpace(string(out)), "\n") {
			ids := slices.Concat([]int{tok.SOT()}, tok.Encode(names[i]), []int{tok.EOT()})
			if got := strings.Trim(fmt.Sprint(ids), "[]"); got != line {
				t.Errorf("%s: ids %s, the library has %s", names[i], got, line)
			}
		}
	}
}

// Hostile files are refused within a second and 100 MB (of a machine that does nothing else: the
// test allows ten).
func TestHostileTokenizerJSON(t *testing.T) {
	many := func(n int, item string) string { return strings.TrimSuffix(strings.Repeat(item+",", n), ",") }
	var keys strings.Builder
	for i := range 190_000 {
		fmt.Fprintf(&keys, `"%x":1,`, i)
	}
	for name, text := range map[string]string{
		"empty":             ``,
		"deep":              strings.Repeat("[", 1<<20),
		"a deep merge":      `{"model": {"merges": [` + strings.Repeat("[", 1<<20) + `]}}`,
		"many merges":       `{"model": {"type": "BPE", "end_of_word_suffix": "</w>", "merges": [` + many(190_000, `"a b"`) + `]}, "pre_tokenizer": "x"}`,
		"many symbols":      `{"model": {"end_of_word_suffix": "</w>", "vocab": {` + keys.String() + `"a": 1}}}`,
		"many added tokens": `{"added_tokens": [` + many(190_000, `{}`) + `]}`,
		"commas":            `[` + many(1_000_000, `1`) + `]`,
		"too large":         `{"x": "` + strings.Repeat("a", maxJSONBytes) + `"}`,
		"a negative number": `{"model": {"vocab": {"a": -1e99}}}`,
		"a symbol of 5 MB":  `{"model": {"merges": ["` + strings.Repeat("a", 5<<20) + ` b"]}}`,
		"a pre_tokenizer":   `{"model": {"end_of_word_suffix": "</w>"}, "pre_tokenizer": [` + many(190_000, `1`) + `]}`,
	} {
		path := filepath.Join(t.TempDir(), "tokenizer.json")
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		var before, after runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&before)
		begin := time.Now()
		_, err := ReadTokenizerJSON(path)
		took := time.Since(begin)
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(err.Error(), path) || len(err.Error()) > 500 {
			t.Errorf("%s: got error %.600v, want one that names the file", name, err)
		}
		mib := (after.TotalAlloc - before.TotalAlloc) >> 20
		t.Logf("%-20s %4d ms %4d MiB  %.100v", name, took.Milliseconds(), mib, err)
		if mib > 200 { // asked for in all; what is held at one time is less
			t.Errorf("%s: %d MiB", name, mib)
		}
		if took > 10*time.Second {
			t.Errorf("%s: refused after %v", name, took)
		}
	}
}

// FuzzTokenizerJSON reads anything; what is accepted is CLIP's order of tokens.
func FuzzTokenizerJSON(f *testing.F) {
	f.Add(hfTokenizer(f, Learn([]string{"a cat", "a hat"}, 3), true, nil))
	f.Add([]byte(`{"model": {"type": "BPE", "merges": ["a b"]}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		tok, err := fromJSON(raw)
		if err != nil {
			return
		}
		if ids := tok.Encode("a cat"); len(ids) == 0 || slices.Max(ids) >= tok.Size() {
			t.Errorf("ids %v of %d", ids, tok.Size())
		}
	})
}

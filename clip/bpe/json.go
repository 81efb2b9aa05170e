package bpe

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"clipinspector/internal/files"
)

const (
	maxJSONBytes  = 6 << 20 // tokenizer.json of CLIP has 2 to 4 MB
	maxJSONCommas = 200_000 // and 150,000 commas
)

// tokenizerJSON is tokenizer.json of Hugging Face's tokenizers, as far as it decides which token
// has which number. What comes before that, normalising and splitting, is OpenAI's here.
type tokenizerJSON struct {
	Model struct {
		Type                    string         `json:"type"`
		Dropout                 *float64       `json:"dropout"`
		ContinuingSubwordPrefix *string        `json:"continuing_subword_prefix"`
		EndOfWordSuffix         *string        `json:"end_of_word_suffix"`
		ByteFallback            bool           `json:"byte_fallback"`
		IgnoreMerges            bool           `json:"ignore_merges"`
		Vocab                   map[string]int `json:"vocab"`
		Merges                  []jsonMerge    `json:"merges"`
	} `json:"model"`
	AddedTokens []struct {
		ID      int    `json:"id"`
		Content string `json:"content"`
	} `json:"added_tokens"`
	PreTokenizer json.RawMessage `json:"pre_tokenizer"`
}

// jsonMerge is "a b", or since tokenizers 0.20 ["a", "b"].
type jsonMerge [2]string

func (m *jsonMerge) UnmarshalJSON(raw []byte) error {
	var pair []string
	if len(raw) > 0 && raw[0] == '"' {
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return err
		}
		pair = strings.Split(s, " ")
	} else if err := json.Unmarshal(raw, &pair); err != nil {
		return err
	}
	if len(pair) != 2 || pair[0] == "" || pair[1] == "" || len(pair[0])+len(pair[1]) > maxLineBytes {
		return fmt.Errorf("the merge %.60s is not two symbols", raw)
	}
	*m = jsonMerge(pair)
	return nil
}

// clipSplit is the expression by which CLIP cuts texts into words, as tokenizer.json has it; see
// [split].
const clipSplit = `<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+`

// ReadTokenizerJSON reads the vocabulary of a tokenizer.json that is CLIP's: byte-pair merges with
// "</w>" at the end of words and the tokens' numbers in the order that the package comment
// describes. Any other is refused; so are tokens that were added. Texts are then normalised as
// OpenAI's tokenizer does, not as this file says (Unicode NFC without OpenAI's ftfy).
func ReadTokenizerJSON(path string) (*Tokenizer, error) {
	raw, err := files.Read(path, maxJSONBytes)
	if err != nil {
		return nil, fmt.Errorf("vocabulary: %w", err)
	}
	t, err := fromJSON(raw)
	if err != nil {
		return nil, fmt.Errorf("vocabulary %s: %w", path, err)
	}
	return t, nil
}

func fromJSON(raw []byte) (*Tokenizer, error) {
	if n := bytes.Count(raw, []byte{','}); n > maxJSONCommas {
		return nil, fmt.Errorf("%d entries; CLIP's vocabulary has fewer than %d", n, maxJSONCommas)
	}
	var f tokenizerJSON
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, err
	}
	m := f.Model
	var cut any
	if len(f.PreTokenizer) < maxLineBytes && len(f.PreTokenizer) > 0 {
		if err := json.Unmarshal(f.PreTokenizer, &cut); err != nil {
			return nil, err
		}
	}
	switch {
	case m.Type != "BPE" && m.Type != "":
		return nil, fmt.Errorf("model.type is %.40q; CLIP's is BPE", m.Type)
	case m.EndOfWordSuffix == nil || *m.EndOfWordSuffix != endOfWord:
		return nil, fmt.Errorf("model.end_of_word_suffix is not %s, as CLIP's is: the tokenizer of another model", endOfWord)
	case m.ContinuingSubwordPrefix != nil && *m.ContinuingSubwordPrefix != "":
		return nil, fmt.Errorf("model.continuing_subword_prefix is %.40q; CLIP has none", *m.ContinuingSubwordPrefix)
	case m.Dropout != nil && *m.Dropout != 0:
		return nil, fmt.Errorf("model.dropout is %g: merges left out by chance", *m.Dropout)
	case m.ByteFallback || m.IgnoreMerges:
		return nil, errors.New("model.byte_fallback or model.ignore_merges is set, which CLIP's is not")
	case !strings.Contains(fmt.Sprint(cut), clipSplit):
		return nil, errors.New("pre_tokenizer does not cut texts into words as CLIP does")
	case len(m.Merges) > maxMerges:
		return nil, fmt.Errorf("%d merges; at most %d are allowed", len(m.Merges), maxMerges)
	}
	merges := make([][2]string, len(m.Merges))
	for i, pair := range m.Merges {
		merges[i] = pair
	}
	t, err := newTokenizer(merges)
	if err != nil {
		return nil, err
	}
	if err := t.sameIDs("model.vocab", m.Vocab); err != nil {
		return nil, err
	}
	for _, added := range f.AddedTokens {
		if id, ok := t.ids[added.Content]; !ok || int(id) != added.ID {
			return nil, fmt.Errorf("added_tokens: %.60q with the number %d, which CLIP does not have", added.Content, added.ID)
		}
	}
	return t, nil
}

// sameIDs checks that a table from symbols to numbers is the vocabulary's. The start and the end of
// text may be missing: some files have them among the added tokens alone.
func (t *Tokenizer) sameIDs(what string, table map[string]int) error {
	n := 0
	for id, s := range t.symbols {
		if t.ids[s] != int32(id) {
			continue // spelled again by a later merge, which is the one that counts
		}
		got, ok := table[s]
		switch {
		case ok:
			n++
			if got != id {
				return fmt.Errorf("%s: the symbol %.60q has the number %d; by the merges it is %d", what, s, got, id)
			}
		case s != startOfText && s != endOfText:
			return fmt.Errorf("%s: the symbol %.60q is missing", what, s)
		}
	}
	if n != len(table) {
		return fmt.Errorf("%s: %d symbols that no merge makes", what, len(table)-n)
	}
	return nil
}

// Equal tells whether two vocabularies are the same: the same merges in the same order.
func (t *Tokenizer) Equal(u *Tokenizer) bool { return slices.Equal(t.merges, u.merges) }

// CheckVocab refuses a vocab.json, as [Tokenizer.WriteVocab] writes it, in which symbols have other
// numbers than here: Hugging Face's tokenizer takes them from there.
func (t *Tokenizer) CheckVocab(path string) error {
	raw, err := files.Read(path, maxJSONBytes)
	if err != nil {
		return fmt.Errorf("vocabulary: %w", err)
	}
	if n := bytes.Count(raw, []byte{','}); n > maxJSONCommas {
		return fmt.Errorf("vocabulary %s: %d entries; CLIP's has fewer than %d", path, n, maxJSONCommas)
	}
	var ids map[string]int32
	if err := json.Unmarshal(raw, &ids); err != nil {
		return fmt.Errorf("vocabulary %s: %w", path, err)
	}
	if !maps.Equal(ids, t.ids) {
		return fmt.Errorf("vocabulary %s: symbols have other numbers than by the merges beside it: keep the one that the model was trained with", path)
	}
	return nil
}

package bpe

import (
	"fmt"
	"slices"
)

// Learn makes a vocabulary for the captions, which are cleaned and split as [Tokenizer.Encode] does
// (Sennrich et al., ACL 2016, algorithm 1): again and again it merges the pair of neighbouring
// symbols that occurs most often, until there are as many merges as asked for or every word is one
// symbol. Among pairs that occur equally often the one whose first symbol has the smaller id is
// taken, then the second's, so that the result depends on the captions' word counts alone.
func Learn(captions []string, merges int) *Tokenizer {
	bytesOnly, err := newTokenizer(nil)
	if err != nil {
		panic(fmt.Sprintf("bpe: a vocabulary without merges: %v", err)) // cannot happen
	}
	counts := map[string]int{}
	for _, c := range captions {
		text, _ := clean(c)
		for _, w := range split(text) {
			if w != startOfText && w != endOfText {
				counts[w]++
			}
		}
	}
	type word struct {
		ids   []int32
		count int
	}
	words := make([]word, 0, len(counts))
	for w, n := range counts { // the order does not matter: only sums are formed from it
		words = append(words, word{slices.Clone(bytesOnly.word(w)), n})
	}
	pairs := map[[2]int32]int{}              // how often each occurs
	where := map[[2]int32]map[int]struct{}{} // the words that may have it
	add := func(w, sign int) {
		ids := words[w].ids
		for i := range len(ids) - 1 {
			p := [2]int32{ids[i], ids[i+1]}
			if pairs[p] += sign * words[w].count; pairs[p] == 0 {
				delete(pairs, p)
			}
			if sign > 0 {
				if where[p] == nil {
					where[p] = map[int]struct{}{}
				}
				where[p][w] = struct{}{}
			}
		}
	}
	for w := range words {
		add(w, 1)
	}
	// Two merges may spell the same symbol; it then has one id here, as in a tokenizer.
	symbols := slices.Clone(bytesOnly.symbols[:512])
	ids := make(map[string]int32, 512+max(merges, 0))
	for id, s := range symbols {
		ids[s] = int32(id)
	}
	var learned [][2]string
	known := map[[2]int32]bool{}
	for len(learned) < min(merges, maxMerges) && len(pairs) > 0 {
		var best [2]int32
		most := 0
		for p, n := range pairs { // a total order: independent of the map's
			if n > most || n == most && slices.Compare(p[:], best[:]) < 0 {
				best, most = p, n
			}
		}
		a, b := symbols[best[0]], symbols[best[1]]
		if !known[best] { // a known pair comes back when a later merge spells one of its symbols in another way
			known[best] = true
			learned = append(learned, [2]string{a, b})
		}
		id, ok := ids[a+b]
		if !ok {
			id = int32(len(symbols))
			symbols, ids[a+b] = append(symbols, a+b), id
		}
		in := where[best]
		delete(where, best)
		for w := range in {
			add(w, -1)
			words[w].ids = mergePair(words[w].ids, best, id)
			add(w, 1)
		}
	}
	t, err := newTokenizer(learned)
	if err != nil {
		panic(fmt.Sprintf("bpe: a learned vocabulary: %v", err)) // cannot happen
	}
	return t
}

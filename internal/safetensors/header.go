package safetensors

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"sort"
	"strconv"
	"unicode/utf8"
)

const (
	// maxHeader and maxIndex are in bytes. A model of a thousand tensors has 100 KB. The reference
	// implementation allows 100 MB, which take 1 GB and half a minute to look through; beyond 16 MB
	// a file could be a pickle to PyTorch as well.
	maxHeader = 2 << 20
	maxIndex  = 2 << 20
	maxRank   = 16
	maxName   = 4096    // bytes
	maxNames  = 1 << 14 // tensors of a file, and keys of its metadata
	chunk     = 64 << 10
)

// checkLayout sorts the tensors by place and checks that they tile the data exactly, each with the
// bytes that its shape and type ask for.
func checkLayout(entries []entry, data uint64) error {
	sort.Slice(entries, func(i, j int) bool {
		a, b := entries[i], entries[j]
		if a.begin != b.begin {
			return a.begin < b.begin
		}
		if a.end != b.end {
			return a.end < b.end
		}
		return a.name < b.name
	})
	at := uint64(0)
	for _, e := range entries {
		width, ok := bytesOf[e.dtype]
		if !ok {
			return fmt.Errorf("tensor %.80q: unknown dtype %.20q", e.name, e.dtype)
		}
		hi, want := bits.Mul64(e.size, width)
		switch {
		case e.end < e.begin || e.end > data:
			return fmt.Errorf("tensor %.80q: data_offsets [%d, %d] lie outside the %d bytes of data", e.name, e.begin, e.end, data)
		case e.begin != at:
			return fmt.Errorf("tensor %.80q: data_offsets begin at %d where %d was expected: tensors overlap or leave a gap",
				e.name, e.begin, at)
		case hi != 0 || want != e.end-e.begin:
			return fmt.Errorf("tensor %.80q: shape %v of %s does not fit data_offsets [%d, %d]", e.name, e.shape, e.dtype, e.begin, e.end)
		}
		at = e.end
	}
	if at != data {
		return fmt.Errorf("%d bytes of data belong to no tensor", data-at)
	}
	return nil
}

// parseHeader reads the JSON object of a header. Duplicate names and unknown or missing fields are
// errors.
func parseHeader(text []byte) (entries []entry, metadata map[string]string, err error) {
	if len(text) == 0 || text[0] != '{' {
		return nil, nil, errors.New("does not begin with {")
	}
	if !utf8.Valid(text) {
		return nil, nil, errors.New("is not UTF-8")
	}
	p := parser{json.NewDecoder(bytes.NewReader(text))}
	p.UseNumber()
	seen := map[string]bool{}
	err = p.object(func(name string) error {
		if len(name) > maxName {
			return fmt.Errorf("a name of %d bytes; at most %d are allowed", len(name), maxName)
		}
		if seen[name] {
			return fmt.Errorf("%.80q occurs twice", name)
		}
		if len(seen) == maxNames {
			return fmt.Errorf("more than %d names", maxNames)
		}
		seen[name] = true
		if name == "__metadata__" {
			metadata = map[string]string{}
			return p.object(func(key string) error {
				if len(metadata) == maxNames {
					return fmt.Errorf("__metadata__: more than %d keys", maxNames)
				}
				if _, twice := metadata[key]; twice {
					return fmt.Errorf("__metadata__: %.80q occurs twice", key)
				}
				value, err := p.string()
				metadata[key] = value
				return err
			})
		}
		e, err := p.entry(name)
		if err != nil {
			return fmt.Errorf("tensor %.80q: %w", name, err)
		}
		entries = append(entries, e)
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	if _, err := p.Token(); err != io.EOF {
		return nil, nil, errors.New("something follows the object")
	}
	return entries, metadata, nil
}

type parser struct{ *json.Decoder }

func (p parser) delim(want json.Delim) error {
	t, err := p.Token()
	if err == nil && t != want {
		return fmt.Errorf("want %v at byte %d", want, p.InputOffset())
	}
	return err
}

// object reads an object and calls f at each value.
func (p parser) object(f func(key string) error) error {
	if err := p.delim('{'); err != nil {
		return err
	}
	for p.More() {
		key, err := p.string()
		if err != nil {
			return err
		}
		if err := f(key); err != nil {
			return err
		}
	}
	return p.delim('}')
}

func (p parser) string() (string, error) {
	t, err := p.Token()
	if err != nil {
		return "", err
	}
	s, ok := t.(string)
	if !ok {
		return "", fmt.Errorf("want a string before byte %d", p.InputOffset())
	}
	return s, nil
}

// naturals reads an array of at most limit numbers.
func (p parser) naturals(limit int) ([]uint64, error) {
	if err := p.delim('['); err != nil {
		return nil, err
	}
	var out []uint64
	for p.More() {
		t, err := p.Token()
		if err != nil {
			return nil, err
		}
		number, ok := t.(json.Number)
		if !ok {
			return nil, fmt.Errorf("want a number before byte %d", p.InputOffset())
		}
		n, err := strconv.ParseUint(number.String(), 10, 64)
		if err != nil {
			return nil, fmt.Errorf("%.40s is no natural number of 64 bits", number)
		}
		if len(out) == limit {
			return nil, fmt.Errorf("more than %d numbers", limit)
		}
		out = append(out, n)
	}
	return out, p.delim(']')
}

func (p parser) entry(name string) (entry, error) {
	e := entry{name: name, size: 1}
	seen := map[string]bool{}
	err := p.object(func(key string) error {
		if seen[key] {
			return fmt.Errorf("%.20q occurs twice", key)
		}
		seen[key] = true
		switch key {
		case "dtype":
			s, err := p.string()
			e.dtype = DType(s)
			return err
		case "shape":
			dims, err := p.naturals(maxRank)
			if err != nil {
				return fmt.Errorf("shape: %w", err)
			}
			e.shape = []int{}
			for _, d := range dims {
				hi, lo := bits.Mul64(e.size, d)
				if hi != 0 || lo > math.MaxInt64/8 || d > math.MaxInt64/8 {
					return errors.New("shape: the number of elements overflows")
				}
				e.size = lo
				e.shape = append(e.shape, int(d))
			}
			return nil
		case "data_offsets":
			offsets, err := p.naturals(2)
			if err == nil && len(offsets) != 2 {
				err = errors.New("want two numbers")
			}
			if err != nil {
				return fmt.Errorf("data_offsets: %w", err)
			}
			e.begin, e.end = offsets[0], offsets[1]
			return nil
		}
		return fmt.Errorf("unknown field %.40q", key)
	})
	if err == nil && len(seen) != 3 {
		err = errors.New("dtype, shape or data_offsets is missing")
	}
	return e, err
}

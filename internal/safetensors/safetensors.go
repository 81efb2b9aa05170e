// Package safetensors reads and writes safetensors files, the format in which Hugging Face ships weights
// (github.com/huggingface/safetensors): eight bytes with the header's length, a JSON header with name, type, shape and place
// of every tensor, then the tensors' bytes, little-endian.
//
// The files come from strangers. github.com/nlpodyssey/safetensors was tried for the parsing and set aside: it takes the last
// of two tensors of one name without a word, needs 58 times a hostile header's size in memory, and refuses a file for one
// tensor of a newer type. The reader here walks through the header token by token, so that memory stays in proportion to the
// file, and accepts only files whose tensors tile the data exactly.
package safetensors

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/bits"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"unicode/utf8"

	"gorgonia.org/tensor"

	"clipinspector/internal/dense"
	"clipinspector/internal/files"
)

const (
	// maxHeader and maxIndex are in bytes. A model of a thousand tensors has 100 KB. The reference implementation allows 100 MB,
	// which take 1 GB and half a minute to look through; beyond 16 MB a file could be a pickle to PyTorch as well.
	maxHeader = 2 << 20
	maxIndex  = 2 << 20
	maxRank   = 16
	maxName   = 4096    // bytes
	maxNames  = 1 << 14 // tensors of a file, and keys of its metadata
	chunk     = 64 << 10
)

// DType is the type of a tensor's numbers in a file.
type DType string

// The types of weights; [Decode] reads others too. [Write] writes the first two.
const (
	F32  DType = "F32"
	F16  DType = "F16"
	BF16 DType = "BF16"
)

// bytesOf gives the bytes of one number of every type whose size is known.
var bytesOf = map[DType]uint64{
	"F64": 8, "F32": 4, "F16": 2, "BF16": 2, "F8_E4M3": 1, "F8_E5M2": 1, "F8_E8M0": 1, "C64": 8,
	"I64": 8, "I32": 4, "I16": 2, "I8": 1, "U64": 8, "U32": 4, "U16": 2, "U8": 1, "BOOL": 1,
}

// File is what a safetensors file holds. Tensors are float32, contiguous and row-major; a tensor of shape () is a scalar of
// package tensor.
type File struct {
	Tensors  map[string]*tensor.Dense
	Metadata map[string]string
	// Skipped names the tensors that are of no type that [Decode] reads.
	// Write ignores it.
	Skipped map[string]DType
}

// Reader is an open file whose header has been read and checked, but no tensor yet.
type Reader struct {
	Metadata map[string]string
	// Skipped is as in [File].
	Skipped map[string]DType

	path    string
	r       io.ReaderAt
	data    uint64 // where the tensors' bytes begin
	entries map[string]entry
	closer  io.Closer
}

// Open opens a file and reads its header. Errors name the file, and the tensor and field that are wrong.
func Open(path string) (*Reader, error) {
	f, err := files.Open(path)
	if err != nil {
		return nil, fmt.Errorf("safetensors: %w", err)
	}
	info, err := f.Stat()
	var r *Reader
	if err == nil {
		r, err = newReader(f, info.Size())
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("safetensors file %s: %w", path, err)
	}
	r.path, r.closer = path, f
	return r, nil
}

// Close closes the file; its tensors can no longer be read.
func (r *Reader) Close() error { return r.closer.Close() }

// Shapes returns the shapes of the tensors that can be read.
func (r *Reader) Shapes() map[string][]int {
	out := map[string][]int{}
	for name, e := range r.entries {
		out[name] = e.shape
	}
	return out
}

// Float32 reads a tensor's numbers in row-major order. Check its shape first: it decides how much memory this takes.
func (r *Reader) Float32(name string) ([]float32, error) {
	e, ok := r.entries[name]
	if !ok {
		return nil, fmt.Errorf("safetensors file %s: no tensor %.80q", r.path, name)
	}
	v, err := r.numbers(e)
	if err != nil {
		err = fmt.Errorf("safetensors file %s: %w", r.path, err)
	}
	return v, err
}

// Read reads a file with all its tensors. Errors name it, and the tensor and field that are wrong.
func Read(path string) (*File, error) {
	r, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	out, err := r.all()
	if err != nil {
		return nil, fmt.Errorf("safetensors file %s: %w", path, err)
	}
	return out, nil
}

// ReadBytes reads a file that lies in memory. The tensors do not share the bytes.
func ReadBytes(data []byte) (*File, error) {
	r, err := newReader(bytes.NewReader(data), int64(len(data)))
	var f *File
	if err == nil {
		f, err = r.all()
	}
	if err != nil {
		return nil, fmt.Errorf("safetensors: %w", err)
	}
	return f, nil
}

// entry is one tensor of a header.
type entry struct {
	name       string
	dtype      DType
	shape      []int
	size       uint64 // numbers
	begin, end uint64 // bytes from the end of the header
}

func newReader(r io.ReaderAt, size int64) (*Reader, error) {
	var head [8]byte
	if size < 8 {
		return nil, fmt.Errorf("%d bytes are too few for a header", size)
	}
	if _, err := r.ReadAt(head[:], 0); err != nil {
		return nil, fmt.Errorf("header length: %w", err)
	}
	n := binary.LittleEndian.Uint64(head[:])
	if n > maxHeader || n > uint64(size-8) {
		return nil, fmt.Errorf("header says it has %d bytes; the file has %d and at most %d are allowed", n, size, maxHeader)
	}
	text := make([]byte, n)
	if _, err := r.ReadAt(text, 8); err != nil && !(err == io.EOF && n == uint64(size-8)) {
		return nil, fmt.Errorf("header: %w", err)
	}
	entries, metadata, err := parseHeader(text)
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	dataStart := 8 + n
	if err := checkLayout(entries, uint64(size)-dataStart); err != nil {
		return nil, err
	}
	f := &Reader{Metadata: metadata, Skipped: map[string]DType{}, r: r, data: dataStart, entries: map[string]entry{}}
	for _, e := range entries {
		switch {
		case !Decode(nil, nil, e.dtype):
			f.Skipped[e.name] = e.dtype
		case e.size == 0:
			return nil, fmt.Errorf("tensor %.80q of shape %v has no elements", e.name, e.shape)
		default:
			f.entries[e.name] = e
		}
	}
	return f, nil
}

func (r *Reader) all() (*File, error) {
	f := &File{Tensors: map[string]*tensor.Dense{}, Metadata: r.Metadata, Skipped: r.Skipped}
	for _, name := range sortedKeys(r.entries) {
		e := r.entries[name]
		values, err := r.numbers(e)
		if err != nil {
			return nil, err
		}
		f.Tensors[name] = dense.New(values, e.shape...)
	}
	return f, nil
}

func (r *Reader) numbers(e entry) ([]float32, error) {
	values := make([]float32, e.size)
	section := io.NewSectionReader(r.r, int64(r.data+e.begin), int64(e.end-e.begin))
	buf := make([]byte, min(2*chunk, e.end-e.begin))
	for rest := values; len(rest) > 0; {
		k := min(len(rest), chunk/4)
		b := buf[:uint64(k)*bytesOf[e.dtype]]
		if _, err := io.ReadFull(section, b); err != nil {
			return nil, fmt.Errorf("tensor %.80q: %w", e.name, err)
		}
		Decode(rest[:k], b, e.dtype)
		rest = rest[k:]
	}
	return values, nil
}

// checkLayout sorts the tensors by place and checks that they tile the data exactly, each with the bytes that its shape and
// type ask for.
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

// parseHeader reads the JSON object of a header. Duplicate names and unknown or missing fields are errors.
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

// ReadSharded reads a set of files by its index, model.safetensors.index.json, whose weight_map says which file beside it
// has which tensor. A tensor that is missing from its file, or in a file without being in the index, is an error, and so is
// a file name that leads out of the folder. The metadata is that of the index.
func ReadSharded(index string) (*File, error) {
	in, err := readIndex(index)
	if err != nil {
		return nil, err
	}
	out := &File{Tensors: map[string]*tensor.Dense{}, Metadata: map[string]string{}, Skipped: map[string]DType{}}
	for k, v := range in.Metadata {
		if s, ok := v.(string); ok {
			out.Metadata[k] = s
		}
	}
	for _, shard := range in.shards {
		part, err := Read(filepath.Join(filepath.Dir(index), shard))
		if err != nil {
			return nil, err
		}
		for name, t := range part.Tensors {
			if in.WeightMap[name] != shard {
				return nil, indexError(index, "tensor %.80q is in %s but not in the weight_map for it", name, shard)
			}
			out.Tensors[name] = t
		}
		for name, dtype := range part.Skipped {
			out.Skipped[name] = dtype
		}
	}
	for _, name := range sortedKeys(in.WeightMap) {
		if out.Tensors[name] == nil && out.Skipped[name] == "" {
			return nil, indexError(index, "tensor %.80q is not in %s", name, in.WeightMap[name])
		}
	}
	return out, nil
}

// WeightMap returns what an index says: the name of the file beside it that has each tensor.
func WeightMap(index string) (map[string]string, error) {
	in, err := readIndex(index)
	if err != nil {
		return nil, err
	}
	return in.WeightMap, nil
}

// Shards returns the paths of the files that an index names, in order of their names.
func Shards(index string) ([]string, error) {
	in, err := readIndex(index)
	if err != nil {
		return nil, err
	}
	for i, shard := range in.shards {
		in.shards[i] = filepath.Join(filepath.Dir(index), shard)
	}
	return in.shards, nil
}

// shardIndex is the content of an index.
type shardIndex struct {
	Metadata  map[string]any    `json:"metadata"`
	WeightMap map[string]string `json:"weight_map"`
	shards    []string          // names of the files, sorted
}

func readIndex(index string) (*shardIndex, error) {
	f, err := files.Open(index)
	if err != nil {
		return nil, fmt.Errorf("safetensors index: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxIndex+1))
	if err != nil {
		return nil, indexError(index, "%w", err)
	}
	if len(text) > maxIndex {
		return nil, indexError(index, "larger than %d bytes", maxIndex)
	}
	in := &shardIndex{}
	if err := json.Unmarshal(text, in); err != nil {
		return nil, indexError(index, "%w", err)
	}
	if len(in.WeightMap) == 0 {
		return nil, indexError(index, "weight_map is missing or empty")
	}
	shards := map[string]bool{}
	for _, shard := range in.WeightMap {
		shards[shard] = true
	}
	in.shards = sortedKeys(shards)
	for _, shard := range in.shards {
		if shard != filepath.Base(shard) || strings.ContainsAny(shard, `/\`) || !filepath.IsLocal(shard) || shard == "." {
			return nil, indexError(index, "%.80q is not the name of a file beside it", shard)
		}
	}
	return in, nil
}

func indexError(index, format string, args ...any) error {
	return fmt.Errorf("safetensors index %s: %w", index, fmt.Errorf(format, args...))
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}

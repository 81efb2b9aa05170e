// Package safetensors reads and writes safetensors files, the format in which Hugging Face ships
// weights (github.com/huggingface/safetensors): eight bytes with the header's length, a JSON header
// with name, type, shape and place of every tensor, then the tensors' bytes, little-endian.
//
// The files come from strangers. The reader walks through the header token by token, so memory
// stays in proportion to the file. It accepts only files whose tensors fill the data exactly.
//
// github.com/nlpodyssey/safetensors was tried for the parsing and set aside. Of two tensors of one
// name it takes the last without a word. It needs 58 times a hostile header's size in memory. It
// refuses a whole file for one tensor of a newer type.
package safetensors

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"maps"
	"slices"

	"gorgonia.org/tensor"

	"clipinspector/internal/dense"
	"clipinspector/internal/files"
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

// File is what a safetensors file holds. Tensors are float32, contiguous and row-major; a tensor of
// shape () is a scalar of package tensor.
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

// Open opens a file and reads its header. Errors name the file, and the tensor and field that are
// wrong.
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

// Float32 reads a tensor's numbers in row-major order. Check its shape first: it decides how much
// memory this takes.
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
	for _, name := range slices.Sorted(maps.Keys(r.entries)) {
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

// Package torchfile reads the files of torch.save, in the zip format (PyTorch 1.6 and later) and the legacy one before it, and
// TorchScript archives as far as their weights go; and writes the zip format.
//
// The files come from strangers. Nothing in them is executed (see package pickle), every size is checked against the bytes that
// are really there before memory is asked for, and tensors are read when somebody wants them, not before.
//
// github.com/nlpodyssey/gopickle was tried and set aside: it reads neither parameters nor TorchScript nor pickles with classes it
// does not know, and bounds no memory.
package torchfile

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"os"
	"slices"
	"strings"

	"clipinspector/clip/pickle"
	"clipinspector/clip/safetensors"
)

// File is an open file.
type File struct {
	// Root is the object that was saved, in the types of package pickle. Tensors in it are inert objects; see [AsTensor].
	Root any
	// Format is "zip", "legacy" or "TorchScript".
	Format string

	path   string
	r      io.ReaderAt
	closer io.Closer
	size   int64
	places map[string]section // where the storages' bytes are, by key
	widths map[string]uint64  // bytes of one number of each storage of a legacy file
}

// section is a part of the file.
type section struct{ begin, size int64 }

// storage is a tensor's memory in the file; of a legacy file its place is known once the pickle has been read.
type storage struct {
	file  *File
	key   string
	dtype safetensors.DType
	size  uint64 // numbers
}

// storageTypes are the types of numbers by the names of PyTorch's storage classes.
var storageTypes = map[string]safetensors.DType{
	"FloatStorage": safetensors.F32, "HalfStorage": safetensors.F16, "BFloat16Storage": safetensors.BF16, "DoubleStorage": "F64",
	"LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8", "BoolStorage": "BOOL",
	"ComplexFloatStorage": "C64",
}

// Is tells from the first bytes of a file, 9 or more, whether it is a zip file or a pickle, and not a safetensors file, whose
// header, after 8 bytes with its length, begins with a brace.
func Is(head []byte) bool {
	if strings.HasPrefix(string(head), "PK\x03\x04") {
		return true
	}
	return len(head) >= 2 && head[0] == 0x80 && head[1] >= 2 && head[1] <= 5 && (len(head) < 9 || head[8] != '{')
}

// Open reads the structure of a file, but no tensor yet. Errors name the file, the part and the reason.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("torch file: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = errors.New("no regular file")
	}
	var out *File
	if err == nil {
		out, err = open(path, f, info.Size())
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("torch file %s: %w", path, err)
	}
	out.closer = f
	return out, nil
}

// Close closes the file; its tensors can no longer be read.
func (f *File) Close() error { return f.closer.Close() }

func open(path string, r io.ReaderAt, size int64) (*File, error) {
	f := &File{path: path, r: r, size: size, places: map[string]section{}}
	head := make([]byte, 4)
	if _, err := r.ReadAt(head, 0); err != nil {
		return nil, errors.New("too short to be one of torch.save")
	}
	if string(head) == "PK\x03\x04" {
		return f, f.openZip()
	}
	if head[0] == 0x80 {
		return f, f.openLegacy()
	}
	return nil, errors.New("neither a zip file nor a pickle, as torch.save writes")
}

func (f *File) openZip() error {
	entries, err := readDirectory(f.r, f.size)
	if err != nil {
		return err
	}
	root := ""
	for name := range entries {
		if stem, rest, ok := strings.Cut(name, "/"); ok && rest == "data.pkl" {
			if root != "" {
				return errors.New("zip: two entries */data.pkl")
			}
			root = stem + "/"
		}
	}
	if root == "" {
		return errors.New("zip: no entry */data.pkl: not a file of torch.save")
	}
	f.Format = "zip"
	if _, script := entries[root+"constants.pkl"]; script {
		f.Format = "TorchScript"
	}
	if e, there := entries[root+"byteorder"]; there {
		s, err := e.locate(f.r, f.size)
		order := make([]byte, min(s.size, 6))
		if err == nil {
			_, err = f.r.ReadAt(order, s.begin)
		}
		if err != nil || string(order) != "little" {
			return fmt.Errorf("byteorder: %.10q (%v); only little-endian files are read", order, err)
		}
	}
	data, err := entries[root+"data.pkl"].locate(f.r, f.size)
	if err != nil {
		return err
	}
	f.Root, err = pickle.Decode(bufio.NewReader(io.NewSectionReader(f.r, data.begin, data.size)), func(id any) (any, error) {
		s, err := f.storage(id)
		if err != nil || s == nil {
			return &pickle.Persistent{ID: id}, err
		}
		if _, known := f.places[s.key]; !known {
			e, there := entries[root+"data/"+s.key]
			if !there {
				return nil, fmt.Errorf("storage %.40q: the zip file has no entry of that name", s.key)
			}
			if f.places[s.key], err = e.locate(f.r, f.size); err != nil {
				return nil, fmt.Errorf("storage %.40q: %w", s.key, err)
			}
		}
		return s, f.checkStorage(s)
	})
	if err != nil {
		return fmt.Errorf("data.pkl: %w", err)
	}
	return nil
}

// storage reads a persistent id ("storage", class, key, location, numbers[, view]); nil for other things.
func (f *File) storage(id any) (*storage, error) {
	t, ok := id.(pickle.Tuple)
	if !ok || len(t) < 5 || t[0] != "storage" {
		return nil, nil
	}
	class, ok1 := t[1].(pickle.Global)
	key, ok2 := t[2].(string)
	size, ok3 := t[4].(int64)
	if !ok1 || !ok2 || !ok3 || size < 0 {
		return nil, errors.New("a storage without type, key and size")
	}
	dtype, known := storageTypes[class.Name]
	if !known || class.Module != "torch" && class.Module != "torch.cuda" {
		return nil, fmt.Errorf("storage %.40q: numbers of the unknown type %.80q", key, class)
	}
	if len(t) > 5 && t[5] != nil {
		return nil, fmt.Errorf("storage %.40q: a view of another storage, which PyTorch 0.3 and older wrote", key)
	}
	return &storage{f, key, dtype, uint64(size)}, nil
}

// checkStorage holds a storage's size against the bytes that are there.
func (f *File) checkStorage(s *storage) error {
	have, width := uint64(f.places[s.key].size), safetensors.Size(s.dtype)
	if s.size > have/width {
		return fmt.Errorf("storage %.40q: %d numbers of %s do not fit into its %d bytes: truncated", s.key, s.size, s.dtype, have)
	}
	return nil
}

// openLegacy reads five pickles (a magic number, the protocol's version, facts about the system, the object, the keys of its
// storages) and finds the storages behind them: for each key the number of its numbers, as 8 bytes, and the numbers.
func (f *File) openLegacy() error {
	f.Format = "legacy"
	stream := io.NewSectionReader(f.r, 0, f.size)
	r := bufio.NewReader(stream)
	next := func(what string) (any, error) {
		v, err := pickle.Decode(r, func(id any) (any, error) {
			s, err := f.storage(id)
			if err != nil || s == nil {
				return &pickle.Persistent{ID: id}, err
			}
			if w, known := f.widths[s.key]; known && w != safetensors.Size(s.dtype) {
				return nil, fmt.Errorf("storage %.40q: of two types", s.key)
			}
			f.widths[s.key] = safetensors.Size(s.dtype)
			return s, nil
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		return v, nil
	}
	f.widths = map[string]uint64{}
	magic, err := next("magic number")
	if err != nil {
		return err
	}
	if n, ok := magic.(*big.Int); !ok || n.Text(16) != "1950a86a20f9469cfc6c" {
		return errors.New("magic number: not that of torch.save: some other pickle")
	}
	version, err := next("protocol version")
	if err != nil {
		return err
	}
	if version != int64(1001) {
		return errors.New("protocol version: not 1001")
	}
	system, err := next("system")
	if err != nil {
		return err
	}
	if d, ok := pickle.AsDict(system); ok {
		if little, _ := d.Get("little_endian"); little != true {
			return errors.New("little_endian: is not True; only little-endian files are read")
		}
	}
	if f.Root, err = next("object"); err != nil {
		return err
	}
	keys, err := next("keys of the storages")
	if err != nil {
		return err
	}
	list, ok := keys.(*pickle.List)
	if !ok {
		return fmt.Errorf("keys of the storages: %s, want a list", pickle.TypeName(keys))
	}
	at, err := stream.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	at -= int64(r.Buffered())
	for _, k := range list.Items {
		key, ok := k.(string)
		width := f.widths[key]
		if !ok || width == 0 || f.places[key].size != 0 {
			return errors.New("keys of the storages: a key that no tensor has, or that comes twice")
		}
		var b [8]byte
		if _, err := f.r.ReadAt(b[:], at); err != nil {
			return fmt.Errorf("storage %.40q: the file ends before it: truncated", key)
		}
		n, left := binary.LittleEndian.Uint64(b[:]), uint64(f.size-at-8)
		if n > left/width {
			return fmt.Errorf("storage %.40q: %d numbers of %d bytes where the file has %d bytes left: truncated", key, n, width, left)
		}
		f.places[key] = section{at + 8, int64(n * width)}
		at += 8 + int64(n*width)
	}
	return nil
}

// Tensor is a tensor that lies in a file.
type Tensor struct {
	DType  safetensors.DType
	Shape  []int
	stride []uint64
	offset uint64
	count  uint64 // numbers
	from   *storage
}

const maxRank = 16

// rebuilders are the functions by which a pickle makes tensors; each takes the tensor, or what it is made of, first.
var rebuilders = map[string]bool{"_rebuild_tensor": true, "_rebuild_tensor_v2": true}

// AsTensor returns the tensor that a value of a pickle stands for, and whether it is one: a tensor or a parameter. A tensor
// that leaves its storage, or has more numbers than it, is an error.
func AsTensor(v any) (*Tensor, bool, error) {
	for range 4 { // a parameter holds a tensor
		o, ok := v.(*pickle.Object)
		if !ok {
			return nil, false, nil
		}
		g, ok := o.Class.(pickle.Global)
		if !ok || g.Module != "torch._utils" || len(o.Args) == 0 {
			return nil, false, nil
		}
		switch {
		case strings.HasPrefix(g.Name, "_rebuild_parameter"):
			v = o.Args[0]
		case rebuilders[g.Name]:
			t, err := newTensor(o.Args)
			return t, true, err
		default:
			return nil, false, nil
		}
	}
	return nil, false, errors.New("parameters within parameters")
}

// newTensor reads (storage, offset, shape, stride, ...).
func newTensor(args pickle.Tuple) (*Tensor, error) {
	if len(args) < 4 {
		return nil, fmt.Errorf("a tensor of %d arguments, want storage, offset, shape and strides", len(args))
	}
	s, ok := args[0].(*storage)
	if !ok {
		return nil, fmt.Errorf("a tensor whose storage is %s", pickle.TypeName(args[0]))
	}
	offset, err := naturals("offset", pickle.Tuple{args[1]})
	if err != nil {
		return nil, err
	}
	shape, err := naturals("shape", args[2])
	if err != nil {
		return nil, err
	}
	stride, err := naturals("strides", args[3])
	if err != nil {
		return nil, err
	}
	if len(shape) != len(stride) {
		return nil, fmt.Errorf("shape of %d axes, strides of %d", len(shape), len(stride))
	}
	if err := s.file.checkStorage(s); err != nil { // a legacy file may have no bytes for it
		return nil, err
	}
	t := &Tensor{DType: s.dtype, stride: stride, offset: offset[0], count: 1, from: s, Shape: make([]int, len(shape))}
	last := t.offset // the place of the last number
	for i, d := range shape {
		if d > 0 && t.count > s.size/d { // so that the product stays within 64 bits
			return nil, fmt.Errorf("shape %v: more numbers than the %d of its storage %.40q", shape, s.size, s.key)
		}
		t.count *= d
		t.Shape[i] = int(d)
		if d > 1 {
			if stride[i] > (1<<62)/(d-1) {
				return nil, fmt.Errorf("strides %v: leave the storage %.40q", stride, s.key)
			}
			last += (d - 1) * stride[i]
		}
		if last >= 1<<62 {
			return nil, fmt.Errorf("offset %d and strides %v: leave the storage %.40q", t.offset, stride, s.key)
		}
	}
	if t.count > 0 && last >= s.size {
		return nil, fmt.Errorf("offset %d, shape %v and strides %v: leave the %d numbers of the storage %.40q",
			t.offset, shape, stride, s.size, s.key)
	}
	return t, nil
}

// naturals reads a tuple or list of at most 16 non-negative integers.
func naturals(what string, v any) ([]uint64, error) {
	var items []any
	switch v := v.(type) {
	case pickle.Tuple:
		items = v
	case *pickle.List:
		items = v.Items
	default:
		return nil, fmt.Errorf("%s: %s, want a tuple", what, pickle.TypeName(v))
	}
	if len(items) > maxRank {
		return nil, fmt.Errorf("%s: %d numbers; at most %d are read", what, len(items), maxRank)
	}
	out := make([]uint64, len(items))
	for i, x := range items {
		n, ok := x.(int64)
		if !ok || n < 0 {
			return nil, fmt.Errorf("%s: %s that is no natural number of 63 bits", what, pickle.TypeName(x))
		}
		out[i] = uint64(n)
	}
	return out, nil
}

// chunk is how many numbers are read at a time.
const chunk = 16 << 10

// Float32 reads the numbers in row-major order. Those of other types are converted; what is too large for float32 becomes
// infinite, and complex numbers are refused. Check the shape first: it is what decides how much memory this takes.
func (t *Tensor) Float32() ([]float32, error) {
	out := make([]float32, t.count)
	if t.count == 0 {
		return out, nil
	}
	if t.rowMajor() {
		return out, t.read(out, t.offset)
	}
	span := uint64(1)
	for i, d := range t.Shape {
		span += uint64(d-1) * t.stride[i]
	}
	memory := make([]float32, span) // at most the storage's size
	if err := t.read(memory, t.offset); err != nil {
		return nil, err
	}
	index := make([]int, len(t.Shape))
	at := uint64(0)
	for i := range out {
		out[i] = memory[at]
		for axis := len(index) - 1; axis >= 0; axis-- {
			index[axis]++
			at += t.stride[axis]
			if index[axis] < t.Shape[axis] {
				break
			}
			at -= uint64(t.Shape[axis]) * t.stride[axis]
			index[axis] = 0
		}
	}
	return out, nil
}

func (t *Tensor) rowMajor() bool {
	want := uint64(1)
	for i := len(t.Shape) - 1; i >= 0; i-- {
		if t.Shape[i] != 1 && t.stride[i] != want {
			return false
		}
		want *= uint64(t.Shape[i])
	}
	return true
}

// read reads numbers from a place of the storage on.
func (t *Tensor) read(out []float32, from uint64) error {
	f, width := t.from.file, safetensors.Size(t.DType)
	at := f.places[t.from.key].begin + int64(from*width)
	buf := make([]byte, min(len(out), chunk)*int(width))
	for part := range slices.Chunk(out, chunk) {
		b := buf[:len(part)*int(width)]
		if _, err := f.r.ReadAt(b, at); err != nil {
			return fmt.Errorf("torch file %s: storage %.40q: %w", f.path, t.from.key, err)
		}
		if !safetensors.Decode(part, b, t.DType) {
			return fmt.Errorf("torch file %s: storage %.40q: numbers of type %s are not read", f.path, t.from.key, t.DType)
		}
		at += int64(len(b))
	}
	return nil
}

// Bounds of a walk through modules within modules, which may be the same ones again and again.
const (
	maxModules = 64
	maxVisits  = 1 << 17 // entries; a ViT-L/14 has a thousand
)

// StateDict returns the tensors of a state dict by their names, or those of a module of a TorchScript archive. Entries that
// are no tensors are left out. Tensors that together have more bytes than the file are an error.
func (f *File) StateDict(v any) (map[string]*Tensor, error) {
	fail := func(err error) (map[string]*Tensor, error) { return nil, fmt.Errorf("torch file %s: %w", f.path, err) }
	out := map[string]*Tensor{}
	left, visits := uint64(f.size), 0
	var walk func(prefix string, v any, depth int) error
	walk = func(prefix string, v any, depth int) error {
		d, ok := pickle.AsDict(v)
		if o, object := v.(*pickle.Object); !ok && object {
			g, _ := o.Class.(pickle.Global)
			if strings.HasPrefix(g.Module, "__torch__") {
				d, ok = pickle.AsDict(o.State)
			}
		}
		if !ok {
			if depth == 0 {
				return fmt.Errorf("%s, want a state dict", pickle.TypeName(v))
			}
			return nil
		}
		if depth > maxModules {
			return fmt.Errorf("%.80q: modules nested deeper than %d", prefix, maxModules)
		}
		for i, key := range d.Keys {
			name, ok := key.(string)
			if !ok {
				return fmt.Errorf("state dict: a key that is %s", pickle.TypeName(key))
			}
			if visits++; visits > maxVisits {
				return fmt.Errorf("more than %d entries", maxVisits)
			}
			name = prefix + name
			if len(name) > 1024 {
				return fmt.Errorf("state dict: a name of %d bytes", len(name))
			}
			t, ok, err := AsTensor(d.Values[i])
			if err != nil {
				return fmt.Errorf("tensor %.80q: %w", name, err)
			}
			if ok {
				size := t.count * safetensors.Size(t.DType)
				if size > left {
					return fmt.Errorf("tensor %.80q: the tensors have more bytes than the file", name)
				}
				left -= size
				out[name] = t
			} else if f.Format == "TorchScript" {
				if err := walk(name+".", d.Values[i], depth+1); err != nil {
					return err
				}
			}
		}
		return nil
	}
	if err := walk("", v, 0); err != nil {
		return fail(err)
	}
	return out, nil
}

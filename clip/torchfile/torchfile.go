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

// Head returns the first 16 bytes of a regular file, or all where it is shorter: what [Is] asks for.
func Head(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() { // opening a pipe would wait for its writer
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head := make([]byte, 16)
	n, err := io.ReadFull(f, head)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return head[:n], nil
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

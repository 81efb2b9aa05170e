// Package torchfile reads the files of torch.save: the zip format (PyTorch 1.6 and later), the
// legacy one before it, and TorchScript archives as far as their weights go. It writes the zip
// format.
//
// The files come from strangers, who may have read this code. They may want PyTorch to load
// something else than what is audited. So only files as trainers write them are read, and what
// PyTorch could read in another way is refused: see allowed.go for pickles, zip.go for archives.
// The folder differential compares this with PyTorch. Nothing is executed. Every size is checked
// against the bytes that are really there before memory is asked for. Tensors are read when
// somebody wants them.
//
// github.com/nlpodyssey/gopickle was tried and set aside. It reads neither parameters nor
// TorchScript nor pickles with classes that it does not know, and it bounds no memory.
package torchfile

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"clipinspector/internal/files"
	"clipinspector/internal/pickle"
	"clipinspector/internal/safetensors"
)

// File is an open file.
type File struct {
	// Root is the object that was saved, in the types of package pickle. Tensors in it are inert
	// objects; see [AsTensor].
	Root any
	// Format is "zip", "legacy" or "TorchScript".
	Format string

	path      string
	r         io.ReaderAt
	closer    io.Closer
	size      int64
	storages  map[string]*storage        // by key
	stateOf   map[string]map[string]bool // parameters and buffers, by the class of a module of TorchScript
	strangers []string                   // what the file names outside of the list of allowed.go
	modules   bool                       // some of these are classes of modules that were pickled whole
	runs      bool                       // optimisers and the like, which have code of their own, are given a state
}

// storage is a tensor's memory in the file; of a legacy file its place is known once the pickle has
// been read.
type storage struct {
	file     *File
	key      string
	class    pickle.Global
	dtype    safetensors.DType
	location string
	size     uint64 // numbers
	begin    int64  // place in the file
	located  bool
	sum      func() error // checks the bytes once, where the file has a sum; nil: it has none
}

// storageTypes are the types of numbers by the names of PyTorch's storage classes.
var storageTypes = map[string]safetensors.DType{
	"FloatStorage": safetensors.F32, "HalfStorage": safetensors.F16, "BFloat16Storage": safetensors.BF16, "DoubleStorage": "F64",
	"LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8", "ByteStorage": "U8", "BoolStorage": "BOOL",
	"ComplexFloatStorage": "C64",
}

// Is tells from the first bytes of a file, 9 or more, whether it is a zip file or a pickle, and not
// a safetensors file, whose header, after 8 bytes with its length, begins with a brace.
func Is(head []byte) bool {
	if strings.HasPrefix(string(head), "PK\x03\x04") {
		return true
	}
	return len(head) >= 2 && head[0] == 0x80 && head[1] >= 2 && head[1] <= 5 && (len(head) < 9 || head[8] != '{')
}

// Head returns the first 512 bytes of a regular file, or all where it is shorter: what [Is] asks
// for. A file that is something else than anybody's weights, such as a web page that was saved in
// their place, is an error that says so.
func Head(path string) ([]byte, error) {
	f, err := files.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	head := make([]byte, 512)
	n, err := io.ReadFull(f, head)
	if err != nil && err != io.ErrUnexpectedEOF && err != io.EOF {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if what := strange(head[:n]); what != "" {
		return nil, fmt.Errorf("%s: %s", path, what)
	}
	return head[:n], nil
}

// strange says what a file is that somebody took for weights, and what to do, "" for what may be
// weights.
func strange(head []byte) string {
	text := strings.ToLower(strings.TrimLeft(strings.TrimPrefix(string(head), "\ufeff"), " \t\r\n"))
	switch begins := func(s string) bool { return strings.HasPrefix(text, s) }; {
	case len(head) == 0:
		return "is empty: download or copy it again"
	case begins("version https://git-lfs"):
		return "is a pointer of git-lfs, not the file itself: run `git lfs pull` where it was cloned"
	case begins("<!doctype") || begins("<html") || begins("<?xml") || begins("<head"):
		return "is a web page, not the file itself: the download gave a page to log in or an error; download it again"
	case begins("{\"error") || begins("not found") || begins("access denied") || begins("entry not found"):
		return "is a server's error message, not the file itself: download it again"
	case strings.HasPrefix(string(head), "\x1f\x8b") || strings.HasPrefix(string(head), "7z\xbc\xaf") || strings.HasPrefix(string(head), "BZh") ||
		strings.HasPrefix(string(head), "\xfd7zXZ") || strings.HasPrefix(string(head), "Rar!"):
		return "is compressed: unpack it first"
	case isTar(head):
		return "is a tar archive: unpack it, or ask for safetensors where torch.save wrote it (PyTorch 0.1)"
	case strings.HasPrefix(string(head), "\x89HDF"):
		return "is an HDF5 file, of TensorFlow or Keras: weights of PyTorch or safetensors are read"
	}
	return ""
}

// Open reads the structure of a file, but no tensor yet. Errors name the file, the part and the
// reason.
func Open(path string) (*File, error) {
	if _, err := Head(path); err != nil {
		return nil, fmt.Errorf("torch file: %w", err)
	}
	f, err := files.Open(path)
	if err != nil {
		return nil, fmt.Errorf("torch file: %w", err)
	}
	info, err := f.Stat()
	var out *File
	if err == nil {
		out, err = open(path, f, info.Size())
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("torch file %s: %w; ask for it as safetensors", path, err)
	}
	out.closer = f
	return out, nil
}

// Close closes the file; its tensors can no longer be read.
func (f *File) Close() error { return f.closer.Close() }

// Parse is [Open] of bytes that lie elsewhere; name is what errors call them. Nothing needs
// closing.
func Parse(name string, r io.ReaderAt, size int64) (*File, error) {
	f, err := open(name, r, size)
	if err != nil {
		return nil, fmt.Errorf("torch file %s: %w; ask for it as safetensors", name, err)
	}
	f.closer = io.NopCloser(nil)
	return f, nil
}

func open(path string, r io.ReaderAt, size int64) (*File, error) {
	f := &File{path: path, r: r, size: size, storages: map[string]*storage{}, stateOf: map[string]map[string]bool{}}
	head := make([]byte, min(size, 512))
	if _, err := r.ReadAt(head, 0); err != nil && err != io.EOF || len(head) < 4 {
		return nil, errors.New("too short to be one of torch.save")
	}
	switch {
	case string(head[:4]) == "PK\x03\x04":
		return f, f.openZip()
	case isTar(head):
		return nil, errors.New("begins as a tar archive, which PyTorch would read instead of the pickle")
	case head[0] == 0x80:
		return f, f.openLegacy()
	}
	return nil, errors.New("neither a zip file nor a pickle, as torch.save writes")
}

// maxPickle bounds the pickle of a zip file, in bytes; that of a CLIP has 100 KB.
const maxPickle = 16 << 20

func (f *File) openZip() error {
	entries, err := readDirectory(f.r, f.size)
	if err != nil {
		return err
	}
	read := func(name string, limit uint64) (string, error) {
		b, err := entries[name].content(f.r, limit)
		return string(b), err
	}
	data, ok := entries["data.pkl"]
	if !ok {
		return errors.New("zip: no entry */data.pkl: not a file of torch.save")
	}
	for _, name := range slices.Sorted(maps.Keys(entries)) { // those that are read nowhere else
		if e := entries[name]; strings.HasPrefix(name, ".") {
			if _, err := e.content(f.r, 256); err != nil {
				return err
			}
		}
	}
	f.Format = "zip"
	if _, script := entries["constants.pkl"]; script {
		f.Format = "TorchScript"
		if err := f.checkCode(entries); err != nil {
			return err
		}
	}
	version := "version"
	if _, new := entries[".data/version"]; new {
		version = ".data/version"
	}
	if _, there := entries[version]; !there {
		return errors.New("zip: no entry */version: not a file of torch.save")
	}
	v, err := read(version, 16)
	if n, bad := strconv.Atoi(strings.TrimSuffix(v, "\n")); err == nil && (bad != nil || n < 1 || n > 10) {
		err = fmt.Errorf("version %q; 1 to 10 are read", v)
	}
	if err != nil {
		return err
	}
	if _, there := entries["byteorder"]; there {
		if order, err := read("byteorder", 16); err != nil || order != "little" {
			return fmt.Errorf("byteorder: %.10q (%v); only little-endian files are read", order, err)
		}
	}
	raw, err := data.content(f.r, maxPickle)
	if err != nil {
		return err
	}
	r := bufio.NewReader(bytes.NewReader(raw))
	f.Root, err = f.decode(r, 5, func(s *storage) error {
		e, there := entries["data/"+s.key]
		if !there {
			return fmt.Errorf("storage %.40q: the zip file has no entry of that name", s.key)
		}
		s.sum = sync.OnceValue(func() error {
			h := crc32.NewIEEE()
			_, err := io.Copy(h, io.NewSectionReader(f.r, s.begin, int64(e.size)))
			if err == nil && h.Sum32() != e.sum {
				err = errors.New("its sum (CRC-32) is wrong: damaged, or written without sums")
			}
			return err
		})
		return s.locate(int64(e.begin), e.size)
	})
	if err == nil {
		if _, more := r.ReadByte(); more == nil {
			err = errors.New("something follows the pickle")
		}
	}
	if o, _ := f.Root.(*pickle.Object); err == nil && f.Format == "TorchScript" &&
		(raw[1] != 2 || o == nil || !strings.HasPrefix(o.Class.(pickle.Global).Module, "__torch__")) {
		err = errors.New("no module of TorchScript, though the archive has constants.pkl")
	}
	if err != nil {
		return fmt.Errorf("data.pkl: %w", err)
	}
	return nil
}

// A class of TorchScript's code as torch.jit.save writes it.
var (
	scriptClass = regexp.MustCompile(`(?m)^class (\w+)\(Module\):\n  __parameters__ = \[((?:"[^"\\\n]*", )*)\]\n  __buffers__ = \[((?:"[^"\\\n]*", )*)\]\n`)
	quoted      = regexp.MustCompile(`"([^"]*)"`)
)

// checkCode reads which attributes the classes of a TorchScript archive have for parameters and
// buffers, and refuses one whose classes make their attributes by code of their own when they are
// loaded.
func (f *File) checkCode(entries map[string]entry) error {
	left := uint64(maxCode)
	for _, name := range slices.Sorted(maps.Keys(entries)) {
		e := entries[name]
		if !strings.HasPrefix(name, "code/") {
			continue
		}
		code, err := e.content(f.r, left)
		if err != nil {
			return err
		}
		left -= e.size
		if bytes.Contains(code, []byte("__setstate__")) {
			return fmt.Errorf("zip: entry %.80q: a class with code that runs when it is loaded (__setstate__)", name)
		}
		if !strings.HasSuffix(name, ".py") { // where the lines came from, for messages
			continue
		}
		classes := scriptClass.FindAllSubmatch(code, -1)
		for _, list := range []string{"__parameters__", "__buffers__"} {
			if bytes.Count(code, []byte(list)) != len(classes) {
				return fmt.Errorf("zip: entry %.80q: %s in a way that torch.jit.save does not write", name, list)
			}
		}
		module := strings.ReplaceAll(strings.TrimSuffix(strings.TrimPrefix(name, "code/"), ".py"), "/", ".")
		for _, c := range classes {
			class := module + "." + string(c[1])
			if _, twice := f.stateOf[class]; twice {
				return fmt.Errorf("zip: entry %.80q: the class %.80q comes twice", name, class)
			}
			f.stateOf[class] = map[string]bool{}
			for _, attribute := range quoted.FindAllSubmatch(slices.Concat(c[2], c[3]), -1) {
				f.stateOf[class][string(attribute[1])] = true
			}
		}
	}
	return nil
}

// decode reads the pickle of an object. found is called with each storage when it first comes up,
// whose id has so many parts.
func (f *File) decode(r *bufio.Reader, parts int, found func(*storage) error) (any, error) {
	v, err := pickle.Decode(r, pickle.Rules{Name: f.name, Call: f.call, Fill: f.fill, Persist: func(id any) (any, error) {
		s, err := f.storage(id, parts)
		if err != nil {
			return nil, err
		}
		if known := f.storages[s.key]; known != nil {
			if known.class != s.class || known.size != s.size || known.location != s.location {
				return nil, fmt.Errorf("storage %.40q: of two types, sizes or places", s.key)
			}
			return known, nil
		}
		f.storages[s.key] = s
		return s, found(s)
	}})
	if strangers := f.namesStrangers(); strangers != nil {
		return nil, strangers
	}
	return v, err
}

var (
	digits = regexp.MustCompile(`^[0-9]{1,20}$`)
	places = regexp.MustCompile(`^(cpu|mps|(cuda|xpu|npu|hpu|mlu)(:[0-9]{1,3})?)$`) // not meta, which has no numbers
)

// storage reads a persistent id ("storage", class, key, location, numbers) and, of legacy files,
// None: it is no view.
func (f *File) storage(id any, parts int) (*storage, error) {
	t, ok := id.(pickle.Tuple)
	if !ok || len(t) != parts || t[0] != "storage" {
		return nil, errors.New("a persistent object that is no storage as torch.save writes it")
	}
	class, ok1 := t[1].(pickle.Global)
	key, ok2 := t[2].(string)
	location, ok3 := t[3].(string)
	size, ok4 := t[4].(int64)
	if !ok1 || !ok2 || !ok3 || !ok4 || size < 0 || !digits.MatchString(key) || !places.MatchString(location) {
		return nil, errors.New("a storage without a type, key, place and size as torch.save writes them")
	}
	dtype, known := storageTypes[class.Name]
	if !known || class.Module != "torch" && class.Module != "torch.cuda" {
		return nil, fmt.Errorf("storage %.40q: numbers of the unknown type %.80q", key, class)
	}
	if len(t) > 5 && t[5] != nil {
		return nil, fmt.Errorf("storage %.40q: a view of another storage, which PyTorch 0.3 and older wrote", key)
	}
	return &storage{file: f, key: key, class: class, dtype: dtype, location: location, size: uint64(size)}, nil
}

// locate notes where a storage's bytes are and holds its size against theirs.
func (s *storage) locate(begin int64, bytes uint64) error {
	if width := safetensors.Size(s.dtype); bytes%width != 0 || s.size != bytes/width {
		return fmt.Errorf("storage %.40q: %d numbers of %s where the file has %d bytes: truncated, or of another type", s.key, s.size, s.dtype, bytes)
	}
	s.begin, s.located = begin, true
	return nil
}

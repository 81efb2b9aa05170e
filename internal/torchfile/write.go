package torchfile

import (
	"archive/zip"
	"bytes"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"

	"gorgonia.org/tensor"

	"clipinspector/internal/files"
	"clipinspector/internal/pickle"
	"clipinspector/internal/safetensors"
)

// An Entry is a key and a value of a dict to be written.
type Entry struct {
	Key string
	// Value is what package pickle writes, a float32 *tensor.Dense (a CPU tensor), or Entries (an
	// OrderedDict).
	Value any
}

// Entries are a dict in its order.
type Entries []Entry

// Write writes a dict as torch.save does, in the zip format, so that torch.load reads it,
// weights_only or not. The file appears whole or not at all, and the same values give the same
// bytes.
func Write(path string, dict Entries) error {
	var tensors []*tensor.Dense
	root := &pickle.Dict{}
	for _, e := range dict {
		v, err := value(e.Value, &tensors)
		if err != nil {
			return fmt.Errorf("writing %s: %q: %w", path, e.Key, err)
		}
		root.Keys, root.Values = append(root.Keys, e.Key), append(root.Values, v)
	}
	var data bytes.Buffer
	if err := pickle.Encode(&data, root); err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	return files.WriteAtomic(path, func(w io.Writer) error {
		a := &archive{w: w}
		a.zip = zip.NewWriter(a)
		a.add("data.pkl", data.Bytes())
		a.add("byteorder", []byte("little"))
		for i, t := range tensors {
			a.add("data/"+strconv.Itoa(i), safetensors.Bytes(t))
		}
		a.add("version", []byte("3\n"))
		if a.err == nil {
			a.err = a.zip.Close()
		}
		return a.err
	})
}

// orderedDict is an OrderedDict as a pickle makes it.
func orderedDict() *pickle.Object {
	return &pickle.Object{Class: pickle.Global{Module: "collections", Name: "OrderedDict"}, Args: pickle.Tuple{}}
}

// value replaces tensors by what rebuilds them, and notes them in the order of their storages'
// keys.
func value(v any, tensors *[]*tensor.Dense) (any, error) {
	switch v := v.(type) {
	case Entries:
		o := orderedDict()
		for _, e := range v {
			x, err := value(e.Value, tensors)
			if err != nil {
				return nil, fmt.Errorf("%q: %w", e.Key, err)
			}
			o.Dict.Keys, o.Dict.Values = append(o.Dict.Keys, e.Key), append(o.Dict.Values, x)
		}
		return o, nil
	case *tensor.Dense:
		if v.Dtype() != tensor.Float32 {
			return nil, fmt.Errorf("a tensor of %v; float32 is written", v.Dtype())
		}
		count := int64(v.Shape().TotalSize())
		id := pickle.Tuple{"storage", pickle.Global{Module: "torch", Name: "FloatStorage"}, strconv.Itoa(len(*tensors)), "cpu", count}
		*tensors = append(*tensors, v)
		shape, stride := pickle.Tuple{}, make(pickle.Tuple, v.Dims())
		for i, next := v.Dims()-1, int64(1); i >= 0; i-- {
			stride[i] = next
			next *= int64(v.Shape()[i])
		}
		for _, d := range v.Shape() {
			shape = append(shape, int64(d))
		}
		return &pickle.Object{Class: pickle.Global{Module: "torch._utils", Name: "_rebuild_tensor_v2"},
			Args: pickle.Tuple{&pickle.Persistent{ID: id}, int64(0), shape, stride, false, orderedDict()}}, nil
	}
	return v, nil
}

// archive is a zip file under way. PyTorch wants every entry's bytes at a multiple of 64, so that
// they can be mapped.
type archive struct {
	w   io.Writer
	n   int // bytes written
	zip *zip.Writer
	err error
}

// Write counts.
func (a *archive) Write(b []byte) (int, error) {
	n, err := a.w.Write(b)
	a.n += n
	return n, err
}

func (a *archive) add(name string, content []byte) {
	if a.err != nil {
		return
	}
	if a.err = a.zip.Flush(); a.err != nil {
		return
	}
	name = "archive/" + name
	const headerLen, align = 30, 64
	begin := a.n + headerLen + len(name) + 4
	pad := (align - begin%align) % align
	extra := append([]byte{'F', 'B', byte(pad), 0}, bytes.Repeat([]byte{'Z'}, pad)...)
	w, err := a.zip.CreateRaw(&zip.FileHeader{Name: name, Extra: extra, Method: zip.Store, CRC32: crc32.ChecksumIEEE(content),
		CompressedSize64: uint64(len(content)), UncompressedSize64: uint64(len(content))})
	if err == nil {
		_, err = w.Write(content)
	}
	a.err = err
}

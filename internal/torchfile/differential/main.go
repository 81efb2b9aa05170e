// Differential is the project's half of differential.py, which compares package torchfile with
// PyTorch. It reads files from its standard input, each after its length as 8 bytes, little-endian.
// It answers each with a line of JSON: what was read, or why the file is refused.
package main

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"

	"clipinspector/internal/pickle"
	"clipinspector/internal/torchfile"
)

// Tensor is what is compared: the numbers in row-major order as little-endian float32, every NaN as
// 0x7fc00000.
type Tensor struct {
	DType string
	Shape []int
	Sum   string // SHA-256 of the numbers
}

type answer struct {
	Error   string            `json:",omitempty"`
	Tensors map[string]Tensor `json:",omitempty"` // of a bare tensor: under ""
}

func main() {
	in, out := bufio.NewReaderSize(os.Stdin, 1<<20), bufio.NewWriter(os.Stdout)
	for {
		var n uint64
		if err := binary.Read(in, binary.LittleEndian, &n); errors.Is(err, io.EOF) {
			return
		} else if err != nil {
			fail(err)
		}
		raw := make([]byte, n)
		if _, err := io.ReadFull(in, raw); err != nil {
			fail(err)
		}
		var a answer
		tensors, err := read(raw)
		if err != nil {
			a.Error = err.Error()
		} else {
			a.Tensors = tensors
		}
		line, err := json.Marshal(a)
		if err != nil {
			fail(err)
		}
		out.Write(append(line, '\n'))
		if err := out.Flush(); err != nil {
			fail(err)
		}
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// read reads all tensors of a file: of "state_dict" where there is one, else of the root.
func read(raw []byte) (map[string]Tensor, error) {
	f, err := torchfile.Parse("file", bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := map[string]Tensor{}
	if t, ok, err := torchfile.AsTensor(f.Root); err != nil || ok {
		if err == nil {
			out[""], err = summary(t)
		}
		return out, err
	}
	root := f.Root
	if d, ok := pickle.AsDict(root); ok {
		if inner, ok := d.Get("state_dict"); ok {
			root = inner
		}
	}
	tensors, err := f.StateDict(root)
	if err != nil {
		return nil, err
	}
	for name, t := range tensors {
		if out[name], err = summary(t); err != nil {
			return nil, err
		}
	}
	return out, nil
}

func summary(t *torchfile.Tensor) (Tensor, error) {
	v, err := t.Float32()
	if err != nil {
		return Tensor{}, err
	}
	b := make([]byte, 0, 4*len(v))
	for _, x := range v {
		bits := math.Float32bits(x)
		if x != x {
			bits = 0x7fc00000
		}
		b = binary.LittleEndian.AppendUint32(b, bits)
	}
	sum := sha256.Sum256(b)
	return Tensor{string(t.DType), t.Shape, hex.EncodeToString(sum[:])}, nil
}

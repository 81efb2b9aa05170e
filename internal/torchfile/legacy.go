package torchfile

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strconv"
	"strings"

	"clipinspector/internal/pickle"
	"clipinspector/internal/safetensors"
)

// isTar tells whether a file begins as a tar archive: PyTorch looks for one before it takes a file
// for a pickle. Its header has a sum, as octal digits, of its other bytes.
func isTar(head []byte) bool {
	if len(head) < 512 {
		return false
	}
	unsigned, signed := int64(8*' '), int64(8*' ')
	for i, b := range head[:512] {
		if i < 148 || i >= 156 {
			unsigned, signed = unsigned+int64(b), signed+int64(int8(b))
		}
	}
	field := head[148:156]
	if field[0] == 0o200 || field[0] == 0o377 { // a number of 7 bytes, as GNU tar has it
		n := int64(0)
		for _, b := range field[1:] {
			n = n<<8 | int64(b)
		}
		return n == unsigned || n == signed || n-1<<56 == signed
	}
	digits, _, _ := strings.Cut(string(field), "\x00")
	n, err := strconv.ParseInt(strings.ReplaceAll("0"+strings.TrimSpace(digits), "_", ""), 8, 64) // Python's int allows _
	return err == nil && (n == unsigned || n == signed)
}

// openLegacy reads five pickles (a magic number, the protocol's version, facts about the system,
// the object, the keys of its storages) and finds the storages behind them: for each key the number
// of its numbers, as 8 bytes, and the numbers.
func (f *File) openLegacy() error {
	f.Format = "legacy"
	stream := io.NewSectionReader(f.r, 0, f.size)
	r := bufio.NewReader(stream)
	next := func(what string) (any, error) {
		v, err := f.decode(r, 6, func(*storage) error { return nil })
		if err != nil {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		return v, nil
	}
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
	if d, ok := system.(*pickle.Dict); !ok {
		return fmt.Errorf("system: %s, want a dict", pickle.TypeName(system))
	} else if little, _ := d.Get("little_endian"); little != true {
		return errors.New("little_endian: is not True; only little-endian files are read")
	}
	if len(f.storages) > 0 {
		return errors.New("system: has storages")
	}
	if f.Root, err = next("object"); err != nil {
		return err
	}
	known := len(f.storages)
	keys, err := next("keys of the storages")
	if err != nil {
		return err
	}
	list, ok := keys.(*pickle.List)
	if !ok || len(f.storages) != known {
		return fmt.Errorf("keys of the storages: %s, want a list", pickle.TypeName(keys))
	}
	at, err := stream.Seek(0, io.SeekCurrent)
	if err != nil {
		return err
	}
	at -= int64(r.Buffered())
	for _, k := range list.Items {
		key, _ := k.(string)
		s := f.storages[key]
		if s == nil || s.located {
			return errors.New("keys of the storages: a key that no tensor has, or that comes twice")
		}
		var b [8]byte
		if _, err := f.r.ReadAt(b[:], at); err != nil {
			return fmt.Errorf("storage %.40q: the file ends before it: truncated", key)
		}
		n, left, width := binary.LittleEndian.Uint64(b[:]), uint64(f.size-at-8), safetensors.Size(s.dtype)
		if n > left/width {
			return fmt.Errorf("storage %.40q: %d numbers of %d bytes where the file has %d bytes left: truncated", key, n, width, left)
		}
		if err := s.locate(at+8, n*width); err != nil {
			return err
		}
		at += 8 + int64(n*width)
	}
	if len(list.Items) != known {
		return fmt.Errorf("keys of the storages: %d, but there are %d storages", len(list.Items), known)
	}
	if at != f.size {
		return fmt.Errorf("%d bytes follow the last storage", f.size-at)
	}
	return nil
}

// Bounds of a walk through modules within modules, which may be the same ones again and again.
const (
	maxModules = 64
	maxVisits  = 1 << 17 // entries; a ViT-L/14 has a thousand
)

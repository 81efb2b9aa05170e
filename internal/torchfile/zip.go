package torchfile

import (
	"bufio"
	"cmp"
	"compress/flate"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"regexp"
	"slices"
	"strings"
)

// The part of the zip format that torch.save uses: entries one after the other from the first byte
// on, the directory behind them, its end as the last bytes of the file. Everything that could be
// read in two ways is refused: bytes that belong to no entry, headers that contradict the
// directory, names that differ in case alone (PyTorch does not look at case), compressed entries.
// PyTorch does not check the sums of entries; here they must be right.
//
// Package archive/zip would take 300 bytes of memory for each 46 of a hostile directory, and reads
// what it can.
const (
	maxDirectory = 4 << 20 // bytes; that of ViT-L/14 has 100 KB
	maxEntryName = 1024
	maxCode      = 16 << 20 // bytes of a TorchScript archive's code
)

// entry is one file of a zip archive, as its directory describes it.
type entry struct {
	name   string // below the archive's folder
	flags  uint16
	method uint16
	sum    uint32 // CRC-32
	stored uint64 // bytes in the file
	size   uint64
	header uint64 // place of its local header
	begin  uint64 // place of its bytes
}

// names are the entries that PyTorch's versions write; in a folder, which bears the file's name.
var names = regexp.MustCompile(`^(data\.pkl|version|byteorder|data/[0-9]{1,20}|\.(format_version|storage_alignment)|\.data/(version|serialization_id))$`)

// scriptNames are those of TorchScript archives alone.
var scriptNames = regexp.MustCompile(`^(constants\.pkl|constants/[0-9]{1,20}|(code|extra)/[^\\\x00]*[^\\\x00/])$`)

const (
	streamed = 1 << 3 // a descriptor with sum and sizes follows the bytes
	utf8Name = 1 << 11
)

// readDirectory reads the directory of a zip file, checks that its entries tile the file, and
// returns them by name.
func readDirectory(r io.ReaderAt, size int64) (map[string]entry, error) {
	entries, dirAt, err := directory(r, size)
	if err == nil {
		err = tile(r, entries, dirAt)
	}
	if err != nil {
		return nil, fmt.Errorf("zip: %w", err)
	}
	out, folded := map[string]entry{}, map[string]string{}
	folder, _, _ := strings.Cut(entries[0].name, "/")
	script := slices.ContainsFunc(entries, func(e entry) bool { return e.name == folder+"/constants.pkl" })
	for _, e := range entries {
		full := e.name
		if other, twice := folded[strings.ToLower(full)]; twice {
			return nil, fmt.Errorf("zip: entry %.80q comes twice, if only as %.80q", full, other)
		}
		folded[strings.ToLower(full)] = full
		dir, name, _ := strings.Cut(full, "/")
		if dir != folder || !names.MatchString(name) && !(script && scriptNames.MatchString(name)) {
			return nil, fmt.Errorf("zip: entry %.80q: none that torch.save writes into an archive %.80q", full, folder)
		}
		if e.method != 0 && !(script && strings.HasPrefix(name, "code/")) {
			return nil, fmt.Errorf("zip: entry %.80q: is compressed; torch.save stores", full)
		}
		e.name = name
		out[name] = e
	}
	return out, nil
}

// directory reads the directory and returns it in its order, and its place.
func directory(r io.ReaderAt, size int64) ([]entry, uint64, error) {
	fail := func(format string, args ...any) ([]entry, uint64, error) { return nil, 0, fmt.Errorf(format, args...) }
	const endLen, locatorLen, end64Len = 22, 20, 56
	tail := make([]byte, min(size, endLen+locatorLen+end64Len))
	if _, err := r.ReadAt(tail, size-int64(len(tail))); err != nil && err != io.EOF {
		return nil, 0, err
	}
	if len(tail) < endLen || string(tail[len(tail)-endLen:][:4]) != "PK\x05\x06" {
		return fail("no directory at the end: truncated, or something follows it")
	}
	tail, end := tail[:len(tail)-endLen], tail[len(tail)-endLen:]
	if le16(end[4:]) != 0 || le16(end[6:]) != 0 || le16(end[8:]) != le16(end[10:]) || le16(end[20:]) != 0 {
		return fail("the end of the directory: on several disks, or with a comment")
	}
	count, dirSize, dirAt := uint64(le16(end[10:])), uint64(le32(end[12:])), uint64(le32(end[16:]))
	dirEnd := uint64(size) - endLen
	if n := len(tail) - locatorLen; n >= 0 && string(tail[n:n+4]) == "PK\x06\x07" { // zip64
		locator := tail[n:]
		if n < end64Len || le64(locator[8:]) != uint64(size)-endLen-locatorLen-end64Len || le32(locator[4:]) != 0 || le32(locator[16:]) != 1 {
			return fail("the end of the directory is not where the file says")
		}
		end64 := tail[n-end64Len : n]
		if string(end64[:4]) != "PK\x06\x06" || le64(end64[4:]) != end64Len-12 || le64(end64[16:]) != 0 || le64(end64[24:]) != le64(end64[32:]) {
			return fail("the end of the directory is not where the file says")
		}
		for i, x := range []struct{ long, short, all uint64 }{{le64(end64[32:]), count, 1<<16 - 1}, {le64(end64[40:]), dirSize, 1<<32 - 1}, {le64(end64[48:]), dirAt, 1<<32 - 1}} {
			if x.short != x.all && x.short != x.long {
				return fail("the end of the directory contradicts itself (field %d)", i)
			}
		}
		count, dirSize, dirAt = le64(end64[32:]), le64(end64[40:]), le64(end64[48:])
		dirEnd -= locatorLen + end64Len
	}
	if dirSize > maxDirectory || dirAt > dirEnd || dirSize != dirEnd-dirAt {
		return fail("a directory of %d bytes at %d; the file has %d, and at most %d are read", dirSize, dirAt, size, maxDirectory)
	}
	dir := make([]byte, dirSize)
	if _, err := r.ReadAt(dir, int64(dirAt)); err != nil && err != io.EOF {
		return nil, 0, err
	}
	var entries []entry
	for range count {
		const headerLen = 46
		if len(dir) < headerLen || string(dir[:4]) != "PK\x01\x02" {
			return fail("the directory ends in the middle")
		}
		e := entry{flags: le16(dir[8:]), method: le16(dir[10:]), sum: le32(dir[16:]), stored: uint64(le32(dir[20:])), size: uint64(le32(dir[24:])),
			header: uint64(le32(dir[42:]))}
		name, extra, comment := int(le16(dir[28:])), int(le16(dir[30:])), int(le16(dir[32:]))
		if name > maxEntryName || len(dir)-headerLen < name+extra+comment {
			return fail("an entry with a name of %d bytes; or the directory ends in the middle", name)
		}
		e.name = string(dir[headerLen : headerLen+name])
		if err := zip64(dir[headerLen+name:headerLen+name+extra], &e.size, &e.stored, &e.header); err != nil {
			return fail("entry %.80q: %w", e.name, err)
		}
		switch {
		case e.flags&^(streamed|utf8Name) != 0:
			return fail("entry %.80q: flags 0x%x: encrypted, or of a kind that torch.save does not write", e.name, e.flags)
		case le16(dir[34:]) != 0 || comment > 0:
			return fail("entry %.80q: on another disk, or with a comment", e.name)
		case le16(dir[36:]) != 0 || le32(dir[38:]) != 0: // PyTorch reads nothing of a folder, and takes what is in memory for it
			return fail("entry %.80q: with attributes, such as those of a folder, which torch.save does not write", e.name)
		case e.method == 0 && e.size != e.stored:
			return fail("entry %.80q: stored as %d bytes, but has %d", e.name, e.stored, e.size)
		}
		entries = append(entries, e)
		dir = dir[headerLen+name+extra+comment:]
	}
	if len(dir) > 0 || len(entries) == 0 {
		return fail("the directory has %d entries and %d bytes more", count, len(dir))
	}
	return entries, dirAt, nil
}

// tile finds the bytes of the entries and checks that nothing lies before, between and behind them,
// up to the directory.
func tile(r io.ReaderAt, entries []entry, dirAt uint64) error {
	order := make([]*entry, len(entries))
	for i := range entries {
		order[i] = &entries[i]
	}
	slices.SortFunc(order, func(a, b *entry) int { return cmp.Compare(a.header, b.header) })
	at := uint64(0)
	for _, e := range order {
		fail := func(reason string) error { return fmt.Errorf("entry %.80q: %s", e.name, reason) }
		const headerLen = 30
		if e.header != at {
			return fail(fmt.Sprintf("begins at %d where %d was expected: entries overlap, or bytes belong to none", e.header, at))
		}
		if dirAt-at < headerLen {
			return fail("lies outside the file: truncated")
		}
		head := make([]byte, headerLen)
		if _, err := r.ReadAt(head, int64(at)); err != nil || string(head[:4]) != "PK\x03\x04" {
			return fail("is not where the directory says")
		}
		name, extra := int(le16(head[26:])), int(le16(head[28:]))
		if at += headerLen; dirAt-at < uint64(name+extra) {
			return fail("lies outside the file: truncated")
		}
		rest := make([]byte, name+extra)
		if _, err := r.ReadAt(rest, int64(at)); err != nil {
			return fail(err.Error())
		}
		at += uint64(name + extra)
		size, stored := uint64(le32(head[22:])), uint64(le32(head[18:]))
		if err := zip64(rest[name:], &size, &stored); err != nil {
			return fail(err.Error())
		}
		later := e.flags&streamed != 0 // then the header may leave them open
		same := func(a, b uint64) bool { return a == b || later && a == 0 }
		if string(rest[:name]) != e.name || le16(head[6:]) != e.flags || le16(head[8:]) != e.method || !same(size, e.size) ||
			!same(stored, e.stored) || !same(uint64(le32(head[14:])), uint64(e.sum)) {
			return fail("its header contradicts the directory")
		}
		if e.stored > dirAt-at {
			return fail(fmt.Sprintf("its %d bytes lie outside the file: truncated", e.stored))
		}
		e.begin = at
		at += e.stored
		if later {
			b := make([]byte, min(24, dirAt-at))
			if _, err := r.ReadAt(b, int64(at)); err != nil && err != io.EOF {
				return fail(err.Error())
			}
			b32 := binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32([]byte("PK\x07\x08"), e.sum), uint32(e.stored))
			b32 = binary.LittleEndian.AppendUint32(b32, uint32(e.size))
			b64 := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint64(b32[:8:8], e.stored), e.size)
			switch {
			case len(b) == 24 && string(b) == string(b64):
				at += 24
			case len(b) >= 16 && string(b[:16]) == string(b32) && e.size < 1<<32-1:
				at += 16
			default:
				return fail("what follows its bytes contradicts the directory")
			}
		}
	}
	if at != dirAt {
		return fmt.Errorf("%d bytes belong to no entry", dirAt-at)
	}
	return nil
}

// zip64 replaces the fields that did not fit into 32 bits by those of an entry's extra field.
func zip64(extra []byte, fields ...*uint64) error {
	seen := false
	for len(extra) > 0 {
		if len(extra) < 4 || int(le16(extra[2:])) > len(extra)-4 {
			return errors.New("extra field: ends in the middle")
		}
		id, n := le16(extra), int(le16(extra[2:]))
		if body := extra[4 : 4+n]; id == 1 {
			if seen {
				return errors.New("extra field: zip64 twice")
			}
			seen = true
			for _, f := range fields {
				if *f != 1<<32-1 {
					continue
				}
				if len(body) < 8 {
					return errors.New("extra field: too short for zip64")
				}
				*f, body = le64(body), body[8:]
			}
		}
		extra = extra[4+n:]
	}
	return nil
}

// content reads a stored entry of at most limit bytes and checks its sum.
func (e entry) content(r io.ReaderAt, limit uint64) ([]byte, error) {
	if e.size > limit || e.stored > limit {
		return nil, fmt.Errorf("zip: entry %.80q: %d bytes; at most %d are read", e.name, e.size, limit)
	}
	var from io.Reader = io.NewSectionReader(r, int64(e.begin), int64(e.stored))
	if e.method == 8 {
		from = flate.NewReader(bufio.NewReader(from))
	}
	b, err := io.ReadAll(io.LimitReader(from, int64(e.size)+1))
	if err == nil && (uint64(len(b)) != e.size || crc32.ChecksumIEEE(b) != e.sum) {
		err = errors.New("its sum (CRC-32) is wrong: damaged, or written without sums")
	}
	if err != nil {
		return nil, fmt.Errorf("zip: entry %.80q: %w", e.name, err)
	}
	return b, nil
}

func le16(b []byte) uint16 { return binary.LittleEndian.Uint16(b) }
func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

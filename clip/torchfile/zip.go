package torchfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The part of the zip format that torch.save uses: entries that are stored, not compressed, with or without zip64. Package
// archive/zip would take 300 bytes of memory for each 46 of a hostile directory, however long it is.
const (
	maxDirectory = 8 << 20 // bytes; that of ViT-L/14 has 100 KB
	maxEntryName = 1024
)

// entry is one file of a zip archive, as its directory describes it.
type entry struct {
	name   string
	method uint16
	size   uint64
	header uint64 // place of its local header
}

// readDirectory reads the directory at the end of a zip file.
func readDirectory(r io.ReaderAt, size int64) (map[string]entry, error) {
	fail := func(format string, args ...any) (map[string]entry, error) {
		return nil, fmt.Errorf("zip: "+format, args...)
	}
	const endLen, locatorLen, end64Len, maxComment = 22, 20, 56, 1 << 16
	tail := make([]byte, min(size, endLen+locatorLen+maxComment))
	if _, err := r.ReadAt(tail, size-int64(len(tail))); err != nil && err != io.EOF {
		return fail("%w", err)
	}
	at := bytes.LastIndex(tail, []byte("PK\x05\x06"))
	if at < 0 || len(tail)-at < endLen {
		return fail("no directory at the end: truncated, or not a file of torch.save")
	}
	end := tail[at:]
	count, dirSize, dirAt := uint64(le16(end[10:])), uint64(le32(end[12:])), uint64(le32(end[16:]))
	if at >= locatorLen && string(tail[at-locatorLen:at-locatorLen+4]) == "PK\x06\x07" { // zip64
		end64 := make([]byte, end64Len)
		place := le64(tail[at-locatorLen+8:])
		if place > uint64(size) || uint64(size)-place < end64Len {
			return fail("the end of the directory lies outside the file")
		}
		if _, err := r.ReadAt(end64, int64(place)); err != nil || string(end64[:4]) != "PK\x06\x06" {
			return fail("the end of the directory is not where the file says")
		}
		count, dirSize, dirAt = le64(end64[32:]), le64(end64[40:]), le64(end64[48:])
	}
	if dirSize > maxDirectory || dirAt > uint64(size) || dirSize > uint64(size)-dirAt {
		return fail("a directory of %d bytes at %d; the file has %d, and at most %d are read", dirSize, dirAt, size, maxDirectory)
	}
	dir := make([]byte, dirSize)
	if _, err := r.ReadAt(dir, int64(dirAt)); err != nil && err != io.EOF {
		return fail("%w", err)
	}
	entries := map[string]entry{}
	for range count {
		const headerLen = 46
		if len(dir) < headerLen || string(dir[:4]) != "PK\x01\x02" {
			return fail("the directory ends in the middle")
		}
		e := entry{method: le16(dir[10:]), size: uint64(le32(dir[24:])), header: uint64(le32(dir[42:]))}
		stored := uint64(le32(dir[20:]))
		name, extra, comment := int(le16(dir[28:])), int(le16(dir[30:])), int(le16(dir[32:]))
		if name > maxEntryName || len(dir)-headerLen < name+extra+comment {
			return fail("an entry with a name of %d bytes; or the directory ends in the middle", name)
		}
		e.name = string(dir[headerLen : headerLen+name])
		if err := zip64(dir[headerLen+name:headerLen+name+extra], &e.size, &stored, &e.header); err != nil {
			return fail("entry %.80q: %w", e.name, err)
		}
		if _, twice := entries[e.name]; twice {
			return fail("entry %.80q comes twice", e.name)
		}
		if e.method == 0 && e.size != stored {
			return fail("entry %.80q: stored as %d bytes, but has %d", e.name, stored, e.size)
		}
		entries[e.name] = e
		dir = dir[headerLen+name+extra+comment:]
	}
	return entries, nil
}

// zip64 replaces the fields that did not fit into 32 bits by those of an entry's extra field.
func zip64(extra []byte, fields ...*uint64) error {
	for len(extra) >= 4 {
		id, n := le16(extra), int(le16(extra[2:]))
		if n > len(extra)-4 {
			return errors.New("extra field: ends in the middle")
		}
		if body := extra[4 : 4+n]; id == 1 {
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

// locate returns where an entry's bytes are.
func (e entry) locate(r io.ReaderAt, size int64) (section, error) {
	fail := func(reason string) (section, error) {
		return section{}, fmt.Errorf("zip: entry %.80q: %s", e.name, reason)
	}
	if e.method != 0 {
		return fail("is compressed; torch.save stores")
	}
	const headerLen = 30
	var b [headerLen]byte
	if e.header > uint64(size) || uint64(size)-e.header < headerLen {
		return fail("lies outside the file: truncated")
	}
	if _, err := r.ReadAt(b[:], int64(e.header)); err != nil || string(b[:4]) != "PK\x03\x04" {
		return fail("is not where the directory says")
	}
	begin := e.header + headerLen + uint64(le16(b[26:])) + uint64(le16(b[28:]))
	if begin > uint64(size) || e.size > uint64(size)-begin {
		return fail(fmt.Sprintf("its %d bytes lie outside the file: truncated", e.size))
	}
	return section{int64(begin), int64(e.size)}, nil
}

func le16(b []byte) uint16 { return binary.LittleEndian.Uint16(b) }
func le32(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
func le64(b []byte) uint64 { return binary.LittleEndian.Uint64(b) }

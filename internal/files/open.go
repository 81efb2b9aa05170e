package files

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"syscall"
)

// Open opens a regular file, or a link to one, for reading. It never waits. Of anything else the
// error, a *[fs.PathError], says what it is.
func Open(path string) (*os.File, error) {
	refuse := func(err error) (*os.File, error) { return nil, &fs.PathError{Op: "open", Path: path, Err: err} }
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if err := kind(info.Mode()); err != nil {
		return refuse(err)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // it may have become a pipe since
	if err != nil {
		return nil, err
	}
	if info, err = f.Stat(); err == nil {
		err = kind(info.Mode())
	}
	if err != nil {
		f.Close()
		return refuse(err)
	}
	opened(path)
	return f, nil
}

// traces are the lists that name the files that are being opened.
var traces struct {
	sync.Mutex
	lists map[*[]string]bool
}

// Trace names every file that is opened in this process until stop is called, once and in the order
// of the first time. It is for a report that must say what it is about: a reader that forgot to
// tell would be the file that matters.
func Trace() (stop func() []string) {
	list := new([]string)
	traces.Lock()
	defer traces.Unlock()
	if traces.lists == nil {
		traces.lists = map[*[]string]bool{}
	}
	traces.lists[list] = true
	return func() []string {
		traces.Lock()
		defer traces.Unlock()
		delete(traces.lists, list)
		return *list
	}
}

func opened(path string) {
	traces.Lock()
	defer traces.Unlock()
	for list := range traces.lists {
		if !slices.Contains(*list, path) {
			*list = append(*list, path)
		}
	}
}

// Read reads a regular file of at most limit bytes.
func Read(path string, limit int64) ([]byte, error) {
	f, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	tooLarge := &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("larger than %d bytes, which no file of its kind needs", limit)}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if info.Size() > limit {
		return nil, tooLarge
	}
	var b bytes.Buffer
	b.Grow(int(info.Size()) + bytes.MinRead) // so that nothing is copied while it is read
	if _, err := b.ReadFrom(io.LimitReader(f, limit+1)); err != nil {
		return nil, err
	}
	if int64(b.Len()) > limit {
		return nil, tooLarge
	}
	return b.Bytes(), nil
}

func kind(m fs.FileMode) error {
	what := ""
	switch {
	case m.IsRegular():
		return nil
	case m.IsDir():
		what = "a folder"
	case m&fs.ModeNamedPipe != 0:
		what = "a pipe"
	case m&fs.ModeSocket != 0:
		what = "a socket"
	case m&fs.ModeDevice != 0:
		what = "a device"
	default:
		what = "something else"
	}
	return errors.New("is " + what + ", not a regular file")
}

package datasets

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"clipinspector/internal/files"
)

// fileSum is the sha256 of a file's bytes.
type fileSum = [sha256.Size]byte

// fileID is what the kernel says of a file that changes when its bytes do. It is trusted inside one
// process only.
type fileID struct {
	path               string
	size, mtime, ctime int64
	device, inode      uint64
}

// settled is how long a file has to lie untouched before its sum is remembered: within a tick of
// the file system's clock a file can be written twice and keep its times.
const settled = 2 * time.Second

var remembered sync.Map // fileID -> fileSum

// hashFile returns the sha256 of a regular file's bytes; from memory where the file was hashed
// before and lies untouched.
func hashFile(path string) (fileSum, error) {
	f, err := files.Open(path)
	if err != nil {
		return fileSum{}, reason(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fileSum{}, reason(err)
	}
	id, known := identify(path, info)
	if known {
		if s, ok := remembered.Load(id); ok {
			return s.(fileSum), nil
		}
	}
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return fileSum{}, reason(err)
	}
	s := fileSum(h.Sum(nil))
	if after, err := f.Stat(); known && err == nil {
		if again, ok := identify(path, after); ok && again == id && time.Since(time.Unix(0, id.ctime)) > settled {
			remembered.Store(id, s)
		}
	}
	return s, nil
}

func identify(path string, info os.FileInfo) (fileID, bool) {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{}, false
	}
	return fileID{path: path, size: info.Size(), mtime: info.ModTime().UnixNano(), ctime: time.Unix(s.Ctim.Unix()).UnixNano(),
		device: uint64(s.Dev), inode: s.Ino}, true
}

// hashAll hashes files in parallel and returns their sums in the order given, and what went wrong
// with each that could not be read. It stops early when ctx is done. step, which may be nil, hears
// how many are done; calls may come from any goroutine.
func hashAll(ctx context.Context, paths []string, step func(done, total int)) (sums []fileSum, unread []error, err error) {
	sums, errs := make([]fileSum, len(paths)), make([]error, len(paths))
	var done atomic.Int64
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(4 * runtime.GOMAXPROCS(0)) // disks like several requests at a time
	for i, p := range paths {
		if groupCtx.Err() != nil {
			break
		}
		group.Go(func() error {
			if groupCtx.Err() != nil {
				return groupCtx.Err()
			}
			if sums[i], errs[i] = hashFile(p); errs[i] != nil {
				errs[i] = fmt.Errorf("image %s: %w", p, errs[i])
			}
			if n := int(done.Add(1)); step != nil {
				step(n, len(paths))
			}
			return nil
		})
	}
	if err := errors.Join(group.Wait(), ctx.Err()); err != nil {
		return nil, nil, fmt.Errorf("hashing %d pictures: %w", len(paths), context.Cause(ctx))
	}
	for _, e := range errs {
		if e != nil {
			unread = append(unread, e)
		}
	}
	return sums, unread, nil
}

// contents are the sums of a list of files, taken once. A file that cannot be read has a sum of
// zeros.
type contents struct {
	mu     sync.Mutex
	taken  bool
	sums   []fileSum
	unread []error
	print  string // of a list of files by these sums
}

func (c *contents) hash(ctx context.Context, paths func() []string, step func(done, total int)) ([]fileSum, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.taken {
		sums, unread, err := hashAll(ctx, paths(), step)
		if err != nil {
			return nil, err
		}
		c.sums, c.unread, c.taken = sums, unread, true
	}
	return c.sums, Joined(c.unread)
}

// fingerprint returns the sha256 in hexadecimal of what write says of the files and their sums.
func (c *contents) fingerprint(paths func() []string, write func(h io.Writer, sums []fileSum)) string {
	sums, _ := c.hash(context.Background(), paths, nil) // a file that cannot be read has a sum of its own
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.print == "" {
		h := sha256.New()
		write(h, sums)
		c.print = hex.EncodeToString(h.Sum(nil))
	}
	return c.print
}

// of returns the sum of file i, where it was taken.
func (c *contents) of(i int) (s fileSum, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.taken {
		return s, false
	}
	return c.sums[i], true
}

// Joined makes one error of what is wrong with several pictures: one line each below a head; nil
// when there are none.
func Joined(errs []error) error {
	switch len(errs) {
	case 0:
		return nil
	case 1:
		return errs[0]
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%d pictures cannot be read:", len(errs))
	for _, e := range errs {
		fmt.Fprintf(&b, "\n  %s", e)
	}
	return errors.New(b.String())
}

// hasher is implemented by sets and pools of files.
type hasher interface {
	hash(ctx context.Context, step func(done, total int)) error
}

// Hash reads the bytes of all files behind a Dataset or Pool, which Fingerprint needs, in parallel;
// step, which may be nil, hears how far it is. It does nothing for rendered sets, and nothing the
// second time. Files that cannot be read are all in the error. Without a call of Hash, Fingerprint
// reads them when it is first asked, and cannot be stopped.
func Hash(ctx context.Context, x any, step func(done, total int)) error {
	if h, ok := behind(x).(hasher); ok {
		return h.hash(ctx, step)
	}
	return nil
}

// behind is what a Dataset or Pool was selected from.
func behind(x any) any {
	for {
		switch v := x.(type) {
		case interface{ Unwrap() Dataset }:
			x = v.Unwrap()
		case datasetPool:
			x = v.ds
		case selectedPool:
			x = v.Pool
		default:
			return x
		}
	}
}

// LeftOut says, in one line each, which files a Dataset or Pool does not use although they lie in
// its folder, and why.
func LeftOut(x any) []string {
	if l, ok := behind(x).(interface{ leftOut() []string }); ok {
		return l.leftOut()
	}
	return nil
}

// OnDisk reports whether the pictures of a Dataset or Pool are files, which may be damaged.
func OnDisk(x any) bool {
	_, ok := behind(x).(hasher)
	return ok
}

// Identity returns the name under which a Dataset or Pool goes into draws and identities: the name
// that it was opened by, or, where that says a path, one made of what lies there.
func Identity(x interface {
	Name() string
	Fingerprint() string
}) string {
	if name := x.Name(); !strings.Contains(name, "folder:") && !strings.Contains(name, "/") {
		return name
	}
	return "folder:sha256:" + x.Fingerprint()[:32]
}

// Unreadable decodes pictures get(i) for i in indices in parallel, and returns what is wrong with
// each that cannot be read, in the order of the list. The second error says that ctx is done.
func Unreadable(ctx context.Context, get func(i int) (*RGB, error), indices []int, step func(done, total int)) ([]error, error) {
	errs := make([]error, len(indices))
	var done atomic.Int64
	group, groupCtx := errgroup.WithContext(ctx)
	group.SetLimit(runtime.GOMAXPROCS(0))
	for k, i := range indices {
		if groupCtx.Err() != nil {
			break
		}
		group.Go(func() error {
			if groupCtx.Err() != nil {
				return groupCtx.Err()
			}
			if img, err := get(i); err != nil {
				errs[k] = err
			} else {
				errs[k] = img.check()
			}
			if n := int(done.Add(1)); step != nil {
				step(n, len(indices))
			}
			return nil
		})
	}
	if err := errors.Join(group.Wait(), ctx.Err()); err != nil {
		return nil, fmt.Errorf("looking at %d pictures: %w", len(indices), context.Cause(ctx))
	}
	var out []error
	for _, e := range errs {
		if e != nil {
			out = append(out, e)
		}
	}
	return out, nil
}

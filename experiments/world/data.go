package world

import (
	"context"
	"fmt"
	"io"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"clipinspector/datasets"
	"clipinspector/internal/printable"
)

// Watch lets ctx stop what the world reads from the disk, and shows on out, which may be nil, how
// far long readings are.
func (w *World) Watch(ctx context.Context, out io.Writer) { w.ctx, w.out = ctx, out }

// Context is what stops the world's readings from the disk; see Watch.
func (w *World) Context() context.Context {
	if w.ctx == nil {
		return context.Background()
	}
	return w.ctx
}

// tellEvery is how often a long reading says how far it is.
const tellEvery = 5 * time.Second

// Steps returns a function that says now and then how many pictures of something are done; nil
// where nobody listens.
func (w *World) Steps(doing, what string) func(done, total int) {
	if w.out == nil {
		return nil
	}
	var mu sync.Mutex
	last := time.Now()
	return func(done, total int) {
		mu.Lock()
		defer mu.Unlock()
		if time.Since(last) >= tellEvery {
			last = time.Now()
			fmt.Fprintf(w.out, "%s %s: %d of %d pictures\n", doing, printable.Text(what), done, total)
		}
	}
}

// identity reads the files behind a dataset or pool, if any, so that its fingerprint is that of
// their bytes, and returns the name under which it goes into draws and identities.
func (w *World) identity(x interface {
	Name() string
	Fingerprint() string
}, what string) (string, error) {
	if err := datasets.Hash(w.Context(), x, w.Steps("hashing", what)); err != nil {
		return "", fmt.Errorf("%s: %w", what, err)
	}
	return datasets.Identity(x), nil
}

// shortName is how results call a folder, wherever it lies: by its own name and eight digits of
// what it holds. Other names stay as they are.
func shortName(name, identity string) string {
	sum, ok := strings.CutPrefix(identity, "folder:sha256:")
	if !ok {
		return name
	}
	base := path.Base(filepath.ToSlash(strings.TrimPrefix(name, "folder:")))
	return fmt.Sprintf("folder:%s#%.8s", base, sum)
}

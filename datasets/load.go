package datasets

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"sync/atomic"

	"gorgonia.org/tensor"

	"clipinspector/internal/dense"
	"clipinspector/internal/memory"
)

// maxLoadBytes bounds the array that Load may ask for.
const maxLoadBytes = 1 << 40

// View turns a picture into the 3 x size x size values (CHW, [0,1]) a model sees. k is the
// picture's position in the list being loaded, so that a random view can depend on it and not on
// the order in which workers finish.
type View func(img *RGB, size, k int) []float32

// testView is preprocess as a View.
func testView(img *RGB, size, _ int) []float32 { return preprocess(img, size) }

// TrainView is a View for a list that holds each picture views times in a row: first as preprocess
// shows it, then as random crops of at least minArea of it (see randomResizedCrop), with a random
// stream for each (seed, k).
func TrainView(seed uint64, views int, minArea float64) View {
	return func(img *RGB, size, k int) []float32 {
		if k%views == 0 {
			return preprocess(img, size)
		}
		return randomResizedCrop(img, size, minArea, rand.New(rand.NewPCG(seed, uint64(k))))
	}
}

// load decodes and preprocesses the pictures get(i) for i in indices and returns them as float32
// [N,3,size,size] in [0,1]. A nil view means testView. The work is spread over GOMAXPROCS
// goroutines; the result does not depend on their number. Of several failing pictures the first in
// the list is reported. Load stops early when ctx is done.
func load(ctx context.Context, get func(i int) (*RGB, error), indices []int, size int, view View) (*tensor.Dense, error) {
	if view == nil {
		view = testView
	}
	n := len(indices)
	if n == 0 || size <= 0 || size > 1<<15 {
		return nil, fmt.Errorf("loading %d pictures at %d px: want at least one, at 1 to %d px", n, size, 1<<15)
	}
	item := 3 * size * size
	if int64(n) > maxLoadBytes/4/int64(item) {
		return nil, fmt.Errorf("loading %d pictures at %d px at once needs more than %d bytes", n, size, int64(maxLoadBytes))
	}
	if err := memory.Check(fmt.Sprintf("%d pictures at %d px", n, size), 4*int64(n)*int64(item)); err != nil {
		return nil, err
	}
	data := make([]float32, n*item)
	errs := make([]error, n)
	var next, failed atomic.Int64 // failed: how many pictures failed; no new ones start then
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), n) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for ctx.Err() == nil && failed.Load() == 0 {
				k := int(next.Add(1)) - 1
				if k >= n {
					return
				}
				if errs[k] = loadOne(data[k*item:(k+1)*item], get, indices[k], size, k, view); errs[k] != nil {
					failed.Add(1)
				}
			}
		}()
	}
	wg.Wait()
	// Pictures start in the order of the list, so all before the first failing one have been tried.
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("loading %d pictures: %w", n, err)
	}
	return dense.New(data, n, 3, size, size), nil
}

func loadOne(dst []float32, get func(i int) (*RGB, error), i, size, k int, view View) error {
	img, err := get(i)
	if err != nil {
		return err
	}
	if err := img.check(); err != nil {
		return fmt.Errorf("image %d: %w", i, err)
	}
	values := view(img, size, k)
	if len(values) != len(dst) {
		return fmt.Errorf("image %d: view gave %d values, want %d", i, len(values), len(dst))
	}
	copy(dst, values)
	return nil
}

// LoadSplit loads the given images of a split (all of them when indices is nil) as float32
// [N,3,size,size] in [0,1], and their labels. A nil view means testView.
func LoadSplit(ctx context.Context, ds Dataset, split Split, indices []int, size int, view View) (*tensor.Dense, []int, error) {
	if indices == nil {
		indices = All(ds.Len(split))
	}
	if len(indices) == 0 {
		return nil, nil, fmt.Errorf("dataset %s: split %q: no images to load", ds.Name(), split)
	}
	for _, i := range indices {
		if i < 0 || i >= ds.Len(split) {
			return nil, nil, indexError(ds.Name(), split, i, ds.Len(split))
		}
	}
	images, err := load(ctx, func(i int) (*RGB, error) { return ds.Image(split, i) }, indices, size, view)
	if err != nil {
		return nil, nil, fmt.Errorf("dataset %s: split %q: %w", ds.Name(), split, err)
	}
	return images, Labels(ds, split, indices), nil
}

// LoadPool loads pictures of a pool (all of them when indices is nil) with the test transform, as
// float32 [N,3,size,size] in [0,1].
func LoadPool(ctx context.Context, p Pool, indices []int, size int) (*tensor.Dense, error) {
	if indices == nil {
		indices = All(p.Len())
	}
	if len(indices) == 0 {
		return nil, errors.New("pool " + p.Name() + ": no images to load")
	}
	images, err := load(ctx, p.Image, indices, size, nil)
	if err != nil {
		return nil, fmt.Errorf("pool %s: %w", p.Name(), err)
	}
	return images, nil
}

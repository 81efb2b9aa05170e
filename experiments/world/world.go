// Package world opens what a suite names: the encoder, the datasets and the pools, each once, with
// the fingerprints of their content. It also opens the engine.
package world

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"

	"gorgonia.org/tensor"

	"clipinspector/datasets"
	"clipinspector/experiments/suite"
	"clipinspector/internal/random"
	"clipinspector/prompts"
)

// World is what suites refer to by name, opened: encoders, datasets and pools. It is shared by all
// workers; pictures are loaded once and the least recently used are given up.
type World struct {
	mu       sync.Mutex
	encoders map[string]*Encoder
	sets     map[string]*Set
	pools    map[string]*Pool
	images   cache
	Outlines *Outlines // of what is not at hand; nil when everything has to be

	ctx context.Context // see Watch
	out io.Writer
}

// NewWorld returns a world with nothing opened.
func New() *World {
	return &World{encoders: map[string]*Encoder{}, sets: map[string]*Set{}, pools: map[string]*Pool{}, images: cache{limit: 8}}
}

// Encoder opens an encoder, once.
func (w *World) Encoder(name string) (*Encoder, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if e := w.encoders[name]; e != nil {
		return e, nil
	}
	e, err := OpenEncoder(name)
	if err != nil {
		if e = w.Outlines.encoder(name); e == nil {
			return nil, err
		}
	}
	w.encoders[name] = e
	return e, nil
}

// set is a dataset as a suite sees it.
type Set struct {
	datasets.Dataset
	Key     string
	ID      string // under which the set goes into draws and identities; never a path
	Size    int    // px, of the encoder's input
	Prompts []string
}

// ResultName is how results call the set: a copy that is not the published set says so.
func (s *Set) ResultName() string {
	name := shortName(s.Name(), s.ID)
	if len(datasets.Incomplete(s.Dataset)) > 0 {
		return name + " (partial)"
	}
	return name
}

func options(d suite.DataSpec, size int) datasets.Options {
	o := datasets.Options{Root: d.Root, Seed: uint64(d.Seed), Size: d.Size, Train: d.Train}
	if o.Size == 0 {
		o.Size = size
	}
	return o
}

// dataset opens a dataset with the suite's restrictions, for an encoder that takes images of the
// given size.
func (w *World) Dataset(u *suite.Suite, spec suite.DatasetSpec, size int) (*Set, error) {
	key := fmt.Sprintf("%s/%d/%v/%d/%d", spec.Name, spec.Classes, u.Data, u.TestImages, size)
	w.mu.Lock()
	defer w.mu.Unlock()
	if s := w.sets[key]; s != nil {
		return s, nil
	}
	ds, err := datasets.Open(spec.Name, options(u.Data, size))
	if err != nil {
		if ds = w.Outlines.dataset(spec.Name); ds == nil {
			return nil, err
		}
	}
	id, err := w.identity(ds, "dataset "+spec.Name) // of the whole set: how many classes are asked for moves no draw
	if err != nil {
		return nil, err
	}
	if spec.Classes > len(ds.Classes()) {
		return nil, fmt.Errorf("dataset %s: %d classes were asked for, it has %d", spec.Name, spec.Classes, len(ds.Classes()))
	}
	if spec.Classes > 0 && spec.Classes < len(ds.Classes()) {
		if ds, err = datasets.Subset(ds, datasets.All(spec.Classes)); err != nil {
			return nil, err
		}
	}
	if u.TestImages > 0 {
		ds = datasets.Limit(ds, datasets.Test, u.TestImages)
	}
	s := &Set{Dataset: ds, Key: key, ID: id, Size: size}
	for _, c := range ds.Classes() {
		s.Prompts = append(s.Prompts, datasets.PromptName(c))
	}
	w.sets[key] = s
	return s, nil
}

// test returns the test images and their labels.
func (w *World) Test(ctx context.Context, s *Set) (*tensor.Dense, []int, error) {
	images, err := w.images.get(ctx, "test "+s.Key, func() (*tensor.Dense, error) {
		images, _, err := datasets.LoadSplit(ctx, s.Dataset, datasets.Test, nil, s.Size, nil)
		return images, err
	})
	return images, datasets.Labels(s.Dataset, datasets.Test, nil), err
}

// shots returns the few-shot training sample of a seed, each image in the given number of views
// (see datasets.TrainView), or with 0 views as it is, to be cropped afresh in each step.
func (w *World) Shots(ctx context.Context, s *Set, shots, seed, views int, minArea float64) (prompts.Data, error) {
	train, _, err := datasets.FewShot(s.Dataset, shots, seed)
	if err != nil {
		return prompts.Data{}, err
	}
	data := prompts.Data{Labels: datasets.Labels(s.Dataset, datasets.Train, train), Views: max(1, views)}
	if views == 0 {
		views = 1
		data.Crop = func(width, height int, rng *rand.Rand) [5]float32 {
			return datasets.RandomCrop(width, height, minArea, rng)
		}
	}
	var rows []int
	for _, i := range train {
		rows = append(rows, slices.Repeat([]int{i}, views)...)
	}
	data.Images, err = w.images.get(ctx, fmt.Sprintf("shots %s %d %d %d %g", s.Key, shots, seed, views, minArea), func() (*tensor.Dense, error) {
		images, _, err := datasets.LoadSplit(ctx, s.Dataset, datasets.Train, rows, s.Size, datasets.TrainView(uint64(seed), views, minArea))
		return images, err
	})
	return data, err
}

// pool is a pool with the pictures that are used of it.
type Pool struct {
	datasets.Pool
	Indices     []int
	ID          string // under which the pool goes into identities; never a path
	size        int
	Fingerprint string
}

// ResultName is how results call the pool.
func (p *Pool) ResultName() string {
	if p.Pool == nil { // an outline
		return p.ID
	}
	return shortName(p.Name(), p.ID)
}

// newPool is the pictures of a pool with the given indices, for an encoder that takes images of the
// given size.
func NewPool(p datasets.Pool, indices []int, size int) *Pool {
	return &Pool{Pool: p, Indices: indices, ID: datasets.Identity(p), size: size, Fingerprint: digest(p.Fingerprint(), indices, size)}
}

// ownPool names the pool of the test pictures of each model's own dataset: what a detector would
// see that had pictures in distribution.
const OwnPool = "own"

// pool opens a pool for the models of one dataset. Pictures whose name is a class of the dataset
// are left out, unless the suite keeps them.
func (w *World) Pool(u *suite.Suite, spec suite.PoolSpec, s *Set) (*Pool, error) {
	key := fmt.Sprintf("%v/%v/%s", spec, u.Data, s.Key)
	w.mu.Lock()
	defer w.mu.Unlock()
	if p := w.pools[key]; p != nil {
		return p, nil
	}
	o := options(u.Data, s.Size)
	rendered := slices.ContainsFunc(datasets.Pools, func(p datasets.PoolEntry) bool { return p.Rendered && p.Name == spec.Name })
	if rendered {
		o.Seed, o.PoolLen = uint64(spec.Seed), spec.Images
	}
	var opened datasets.Pool
	var err error
	if spec.Name == OwnPool {
		opened, err = datasets.NewDatasetPool(s.Dataset, datasets.Test)
	} else {
		opened, err = datasets.OpenPool(spec.Name, o)
	}
	if err != nil {
		if p := w.Outlines.pool(spec); p != nil {
			w.pools[key] = p
			return p, nil
		}
		return nil, err
	}
	id := spec.Name
	if spec.Name != OwnPool {
		if id, err = w.identity(opened, "pool "+spec.Name); err != nil {
			return nil, err
		}
	}
	if !spec.Overlap && spec.Name != OwnPool {
		if opened, err = withoutClasses(opened, s); err != nil {
			return nil, err
		}
	}
	n := spec.Images
	if n == 0 {
		n = opened.Len()
	}
	if n > opened.Len() {
		if p := w.Outlines.pool(spec); p != nil {
			w.pools[key] = p
			return p, nil
		}
		return nil, fmt.Errorf("pool %s: %d images were asked for, it has %d that show no class of %s: lower the number of images",
			spec.Name, n, opened.Len(), s.Name())
	}
	indices := datasets.All(opened.Len())
	if !rendered {
		rng := random.Named("pool", uint64(spec.Seed))
		rng.Shuffle(len(indices), func(i, j int) { indices[i], indices[j] = indices[j], indices[i] })
	}
	p := NewPool(opened, indices[:n], s.Size)
	p.ID = id // of the whole pool
	w.pools[key] = p
	return p, nil
}

func withoutClasses(p datasets.Pool, s *Set) (datasets.Pool, error) {
	kept, excluded := datasets.ExcludeOverlap(p, s.Classes())
	if kept.Len() == 0 {
		return nil, fmt.Errorf("pool %s: every picture shows a class of %s (%s): set overlap: true to use them nevertheless",
			p.Name(), s.Name(), FirstNames(excluded))
	}
	return kept, nil
}

func (w *World) PoolImages(ctx context.Context, p *Pool) (*tensor.Dense, error) {
	return w.images.get(ctx, "pool "+p.Fingerprint, func() (*tensor.Dense, error) {
		return datasets.LoadPool(ctx, p.Pool, p.Indices, p.size)
	})
}

// cached returns what load gives, loaded once for a key, as long as it is among the most recently
// used.
func (w *World) Cached(ctx context.Context, key string, load func() (*tensor.Dense, error)) (*tensor.Dense, error) {
	return w.images.get(ctx, key, load)
}

// cache keeps the most recently used images. Two goroutines that ask for the same wait for one
// load.
type cache struct {
	mu    sync.Mutex
	limit int
	items []*cached // most recently used first
}

type cached struct {
	key   string
	once  chan struct{} // closed when loaded
	value *tensor.Dense
	err   error
}

func (c *cache) get(ctx context.Context, key string, load func() (*tensor.Dense, error)) (*tensor.Dense, error) {
	for {
		c.mu.Lock()
		i := slices.IndexFunc(c.items, func(x *cached) bool { return x.key == key })
		if i < 0 {
			item := &cached{key: key, once: make(chan struct{})}
			c.items = slices.Insert(c.items, 0, item)
			c.items = c.items[:min(len(c.items), c.limit)]
			c.mu.Unlock()
			item.value, item.err = load()
			if item.err != nil {
				c.drop(item)
			}
			close(item.once)
			return item.value, item.err
		}
		item := c.items[i]
		c.items = slices.Insert(slices.Delete(c.items, i, i+1), 0, item)
		c.mu.Unlock()
		select {
		case <-item.once:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
		// The one who loaded was told to stop, which says nothing about this one.
		if errors.Is(item.err, context.Canceled) && ctx.Err() == nil {
			continue
		}
		return item.value, item.err
	}
}

func (c *cache) drop(item *cached) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.items = slices.DeleteFunc(c.items, func(x *cached) bool { return x == item })
}

// FirstNames is the beginning of a list of names, each in quotes, which keep control characters
// from the terminal.
func FirstNames(names []string) string {
	var b strings.Builder
	for i, n := range names[:min(3, len(names))] {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%.40q", n)
	}
	return b.String()
}

// digest hashes things by their printed form.
func digest(parts ...any) string {
	h := sha256.New()
	for _, p := range parts {
		fmt.Fprintf(h, "%v\n", p)
	}
	return hex.EncodeToString(h.Sum(nil))
}

package datasets

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"strings"
)

// PoolEntry is a name that OpenPool accepts.
type PoolEntry struct {
	Name, Doc string
	Rendered  bool // as many pictures as Options.PoolLen says, drawn by Options.Seed
}

// Pools lists what OpenPool accepts, as words for help texts.
var Pools = []PoolEntry{
	{"mini", "scenes of the mini world with things that no set has a class for", true},
	{"textures", "surfaces of the mini world, without things", true},
	{"noise", "independent uniform pixels", true},
	{"imagenet-ood", "pictures in the folder of that name below the data", false},
	{"folder:PATH", "every picture at any depth below a folder", false},
	{"dataset:NAME", "test pictures of a dataset", false},
}

// OpenPool opens a pool of unlabelled pictures: "mini" (pictures of the mini world's
// out-of-distribution classes), "textures" (its surfaces alone), "noise" (uniform noise),
// "imagenet-ood" (the folder of that name below Options.Root), "folder:PATH" or any name with a "/"
// (every picture below a folder, see Open for relative paths), and "dataset:NAME" (the test
// pictures of a dataset). The rendered pools have Options.PoolLen pictures.
func OpenPool(name string, o Options) (Pool, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("pool %s: %w", name, err)
	}
	switch ds, isDataset := strings.CutPrefix(name, "dataset:"); {
	case isDataset:
		d, err := Open(ds, o)
		if err != nil {
			return nil, fmt.Errorf("pool %s: %w", name, err)
		}
		return NewDatasetPool(d, Test)
	case name == "mini":
		return miniPool{o}, nil
	case name == "textures":
		return texturePool{o}, nil
	case name == "noise":
		return noisePool{o}, nil
	case name == "imagenet-ood":
		return openFolderPool(name, filepath.Join(o.Root, name))
	}
	if path, ok := folderPath(name, o); ok {
		return openFolderPool(name, path)
	}
	var known []string
	for _, p := range Pools {
		known = append(known, p.Name)
	}
	return nil, fmt.Errorf("unknown pool %q; known are %s", name, strings.Join(known, ", "))
}

// noisePool renders pictures of independent uniform pixels.
type noisePool struct{ o Options }

func (p noisePool) Name() string { return "noise" }
func (p noisePool) Len() int     { return p.o.PoolLen }

func (p noisePool) Image(i int) (*RGB, error) {
	if i < 0 || i >= p.Len() {
		return nil, poolIndexError(p, i)
	}
	img := NewRGB(p.o.Size, p.o.Size)
	r := rand.New(rand.NewPCG(p.o.Seed, uint64(i)))
	for k := range img.Pix {
		img.Pix[k] = uint8(r.Uint32() >> 24)
	}
	return img, nil
}

func (p noisePool) Fingerprint() string {
	return hashText(fmt.Sprintf("noise v1 seed=%d size=%d len=%d", p.o.Seed, p.o.Size, p.o.PoolLen))
}

// folderPool is every picture below a folder, in sorted order of the paths.
type folderPool struct {
	name, folder string
	files        []string
	notes        []string // what was left out
	contents     contents
}

// openFolderPool opens every picture (see extensions) at any depth below a folder as a pool.
func openFolderPool(name, path string) (Pool, error) {
	w, err := newWalker(path)
	if err != nil {
		err = fmt.Errorf("folder %s: %w", path, err)
	}
	var files []string
	if err == nil {
		files, err = w.pictures(".")
	}
	if err != nil {
		return nil, fmt.Errorf("pool %s: %w; put about 1,000 pictures there that show none of the model's classes", name, err)
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("pool %s: %w", name, w.explain(fmt.Errorf("no pictures below %s", path)))
	}
	return &folderPool{name: name, folder: path, files: files, notes: w.leftOut()}, nil
}

// paths are the files, in order.
func (p *folderPool) paths() []string {
	out := make([]string, len(p.files))
	for i := range out {
		out[i] = p.path(i)
	}
	return out
}

func (p *folderPool) hash(ctx context.Context, step func(done, total int)) error {
	_, err := p.contents.hash(ctx, p.paths, step)
	return err
}

func (p *folderPool) leftOut() []string { return p.notes }

// Name returns the pool's name.
func (p *folderPool) Name() string { return p.name }

// Len returns the number of pictures.
func (p *folderPool) Len() int { return len(p.files) }

// path returns the file of picture i.
func (p *folderPool) path(i int) string {
	return filepath.Join(p.folder, filepath.FromSlash(p.files[i]))
}

// Image decodes picture i.
func (p *folderPool) Image(i int) (*RGB, error) {
	if i < 0 || i >= p.Len() {
		return nil, poolIndexError(p, i)
	}
	return readHashed(p.path(i), &p.contents, i)
}

// Fingerprint hashes the relative paths and the bytes of the files; see Hash.
func (p *folderPool) Fingerprint() string {
	return p.contents.fingerprint(p.paths, func(h io.Writer, sums []fileSum) {
		fmt.Fprintf(h, "folder pool by content %d\n", len(p.files))
		for i, f := range p.files {
			fmt.Fprintf(h, "%q %x\n", f, sums[i])
		}
	})
}

var synsetName = regexp.MustCompile(`^n[0-9]{8}_(.*)$`)

// ImageName returns the class words that a file carries: those after ImageNet's synset number in
// the file name ("n01440764_tench.jpg" carries "tench") or in the name of its folder, else the
// folder's name, else "". Numbers ("n01440764_10026.JPEG") are no words.
func (p *folderPool) ImageName(i int) string {
	file := p.files[i]
	base := strings.TrimSuffix(filepath.Base(file), filepath.Ext(file))
	if m := synsetName.FindStringSubmatch(base); m != nil && hasLetter(m[1]) {
		return m[1]
	}
	folder := filepath.Base(filepath.Dir(filepath.FromSlash(file)))
	if m := synsetName.FindStringSubmatch(folder); m != nil {
		folder = m[1]
	}
	if folder == "." || !hasLetter(folder) || synsetOnly.MatchString(folder) {
		return ""
	}
	return folder
}

var synsetOnly = regexp.MustCompile(`^n[0-9]{8}$`)

func hasLetter(s string) bool {
	return strings.ContainsFunc(s, func(r rune) bool { return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' })
}

// datasetPool is one split of a dataset without its labels.
type datasetPool struct {
	ds    Dataset
	split Split
}

// NewDatasetPool makes a pool of one split of a dataset. Its name is "dataset:NAME" for the test
// split.
func NewDatasetPool(ds Dataset, split Split) (Pool, error) {
	if ds.Len(split) == 0 {
		return nil, fmt.Errorf("pool dataset:%s: split %q is empty", ds.Name(), split)
	}
	return datasetPool{ds, split}, nil
}

func (p datasetPool) Name() string {
	if p.split == Test {
		return "dataset:" + p.ds.Name()
	}
	return "dataset:" + p.ds.Name() + "/" + string(p.split)
}
func (p datasetPool) Len() int                  { return p.ds.Len(p.split) }
func (p datasetPool) Image(i int) (*RGB, error) { return p.ds.Image(p.split, i) }
func (p datasetPool) ImageName(i int) string    { return p.ds.Classes()[p.ds.Label(p.split, i)] }
func (p datasetPool) Fingerprint() string {
	return hashText("dataset pool " + string(p.split) + " " + p.ds.Fingerprint())
}

func poolIndexError(p Pool, i int) error {
	return fmt.Errorf("pool %s: no image %d of %d", p.Name(), i, p.Len())
}

func hashText(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

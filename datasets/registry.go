package datasets

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// Defaults of Options.
const (
	RootEnv        = "CLIPINSPECTOR_DATA" // environment variable that names the folder of real data
	defaultRoot    = "data"               // in the working directory; used when RootEnv is unset
	defaultSize    = 64                   // px, side of rendered pictures
	defaultPoolLen = 1000                 // pictures of a rendered pool: the size of the paper's OOD pool
)

// Root is the folder of real data: the one that the environment variable RootEnv names, or the
// folder "data" of the working directory.
func Root() string {
	return cmp.Or(os.Getenv(RootEnv), defaultRoot)
}

// Options says where real data lies and how rendered data is made. The zero value means the
// defaults.
type Options struct {
	Root    string // folder that holds the dataset folders; Root() when empty
	Seed    uint64 // seed of the mini world and of rendered pools
	Size    int    // px, side of rendered pictures; defaultSize when 0
	PoolLen int    // pictures of a rendered pool; defaultPoolLen when 0
	Train   int    // training pictures a class of rendered sets; miniTrainPerClass when 0
}

func (o Options) withDefaults() (Options, error) {
	if o.Root == "" {
		o.Root = Root()
	}
	if o.Size == 0 {
		o.Size = defaultSize
	}
	if o.Size < 8 || o.Size > 1024 {
		return o, fmt.Errorf("size of rendered pictures: want 8 to 1024 px, got %d", o.Size)
	}
	if o.PoolLen == 0 {
		o.PoolLen = defaultPoolLen
	}
	if o.PoolLen < 1 || o.PoolLen > 1_000_000 {
		return o, fmt.Errorf("length of a rendered pool: want 1 to 1000000, got %d", o.PoolLen)
	}
	if o.Train == 0 {
		o.Train = miniTrainPerClass
	}
	if o.Train < 1 || o.Train > 100_000 {
		return o, fmt.Errorf("training pictures a class of a rendered set: want 1 to 100000, got %d", o.Train)
	}
	return o, nil
}

// Entry makes a dataset known by name.
type Entry struct {
	Name   string // how configurations call it
	Family string // "mini", "coop", ...: the file that reads it
	Doc    string // one line
	Open   func(o Options) (Dataset, error)
}

var registry = map[string]Entry{}

// Register makes a dataset known to Open. It panics when the name is taken: a fault of the program.
func Register(e Entry) {
	if _, taken := registry[e.Name]; taken || e.Name == "" || e.Open == nil {
		panic(fmt.Sprintf("datasets: bad or repeated registration of %q", e.Name))
	}
	registry[e.Name] = e
}

// Names lists the registered datasets, sorted by family, then by name.
func Names() []string {
	out := make([]string, 0, len(registry))
	for name := range registry {
		out = append(out, name)
	}
	sort.Slice(out, func(i, j int) bool {
		a, b := registry[out[i]], registry[out[j]]
		if a.Family != b.Family {
			return a.Family < b.Family
		}
		return a.Name < b.Name
	})
	return out
}

// Describe returns the family and one line of description of a registered dataset.
func Describe(name string) (family, doc string, err error) {
	e, ok := registry[name]
	if !ok {
		return "", "", unknown(name)
	}
	return e.Family, e.Doc, nil
}

// Open opens a dataset: a registered name, or "folder:PATH" (or any name with a "/") for a folder
// with one folder of pictures a class. A relative PATH is looked up below Options.Root first, then
// in the working directory. When real data is absent the error says where it comes from and how to
// lay it out.
func Open(name string, o Options) (Dataset, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, fmt.Errorf("dataset %s: %w", name, err)
	}
	if e, ok := registry[name]; ok {
		return e.Open(o)
	}
	if path, ok := folderPath(name, o); ok {
		return asDataset(openFolder(name, path))
	}
	return nil, unknown(name)
}

// asDataset keeps a nil *Files from becoming a Dataset that is not nil.
func asDataset(d *fileSet, err error) (Dataset, error) {
	if err != nil {
		return nil, err
	}
	return d, nil
}

func unknown(name string) error {
	return fmt.Errorf("unknown dataset %q; known are %s, and folder:PATH", name, strings.Join(Names(), ", "))
}

// folderPath resolves "folder:PATH" and names with a "/".
func folderPath(name string, o Options) (string, bool) {
	path, explicit := strings.CutPrefix(name, "folder:")
	if path == "" || !explicit && !strings.Contains(name, "/") {
		return "", false
	}
	if filepath.IsAbs(path) {
		return filepath.Clean(path), true
	}
	below := filepath.Join(o.Root, path)
	if _, err := os.Stat(below); err == nil {
		return below, true
	}
	return filepath.Clean(path), true
}

package datasets

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
)

// coopSet is one row of the table of sets laid out as CoOp's DATASETS.md says.
type coopSet struct {
	name     string
	folder   string // below the root
	images   string // below folder; the paths of the split file start there
	split    string // split file in folder; "" for FGVCAircraft, which has text files
	sha256   string // of the published split file, as "first digits...last digits"; "" where it is not known
	classes  int    // published number of classes
	counts   [3]int // published numbers of pictures: train, val, test
	template string // CLIP's zero-shot template as CoOp's trainers/zsclip.py has it
	source   string // where the pictures come from
}

// coopSets are the ten sets of the paper, which are those of CoOp without ImageNet.
var coopSets = []coopSet{
	{"caltech101", "caltech-101", "101_ObjectCategories", "split_zhou_Caltech101.json", "52ce8320...3fa5", 100, [3]int{4128, 1649, 2465},
		"a photo of a {}.", "Caltech101, https://data.caltech.edu/records/mzrjq-6wc02"},
	{"oxford-pets", "oxford_pets", "images", "split_zhou_OxfordPets.json", "d7f3ffe6...301e", 37, [3]int{2944, 736, 3669},
		"a photo of a {}, a type of pet.", "Oxford-IIIT Pet, https://www.robots.ox.ac.uk/~vgg/data/pets/"},
	{"stanford-cars", "stanford_cars", "", "split_zhou_StanfordCars.json", "40acee7a...959d", 196, [3]int{6509, 1635, 8041},
		"a photo of a {}.", "Stanford Cars (cars_train and cars_test)"},
	{"flowers102", "oxford_flowers", "jpg", "split_zhou_OxfordFlowers.json", "2f50c42f...c794", 102, [3]int{4093, 1633, 2463},
		"a photo of a {}, a type of flower.", "Oxford Flowers 102, https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"},
	{"food101", "food-101", "images", "split_zhou_Food101.json", "", 101, [3]int{50500, 20200, 30300},
		"a photo of {}, a type of food.", "Food-101, https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/"},
	{"fgvc-aircraft", "fgvc_aircraft", "images", "", "", 100, [3]int{3334, 3333, 3333},
		"a photo of a {}, a type of aircraft.", "FGVC-Aircraft 2013b, https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/"},
	{"sun397", "sun397", "SUN397", "split_zhou_SUN397.json", "", 397, [3]int{15880, 3970, 19850},
		"a photo of a {}.", "SUN397, https://vision.princeton.edu/projects/2010/SUN/"},
	{"dtd", "dtd", "images", "split_zhou_DescribableTextures.json", "f26ebecc...9c38", 47, [3]int{2820, 1128, 1692},
		"{} texture.", "Describable Textures, https://www.robots.ox.ac.uk/~vgg/data/dtd/"},
	{"eurosat", "eurosat", "2750", "split_zhou_EuroSAT.json", "541503a7...8ad2", 10, [3]int{13500, 5400, 8100},
		"a centered satellite photo of {}.", "EuroSAT, https://github.com/phelber/EuroSAT"},
	{"ucf101", "ucf101", "UCF-101-midframes", "split_zhou_UCF101.json", "d78cb834...fdd8", 101, [3]int{7639, 1898, 3783},
		"a photo of a person doing {}.", "UCF101 middle frames, see CoOp's DATASETS.md"},
}

func init() {
	for _, s := range coopSets {
		Register(Entry{
			Name:   s.name,
			Family: "coop",
			Doc: fmt.Sprintf("%s; %d classes, %d/%d/%d pictures", s.source, s.classes,
				s.counts[0], s.counts[1], s.counts[2]),
			Open: func(o Options) (Dataset, error) { return asDataset(openTuned(s, o.Root)) },
		})
	}
}

// openCoOp opens one set of the table below root.
func openCoOp(s coopSet, root string) (*fileSet, error) {
	folder := filepath.Join(root, s.folder)
	file := filepath.Join(folder, s.split)
	var classes []string
	var lists map[Split][]Item
	var err error
	if s.split == "" {
		file = folder
		classes, lists, err = readAircraft(folder)
	} else {
		var data []byte
		if data, err = readSmall(file, maxSplitBytes); err == nil {
			classes, lists, err = parseSplit(data)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		if n := count(folder); n > 0 {
			return nil, fmt.Errorf("dataset %s: %d pictures are in %s, only the lists are missing (%w): get %s as CoOp's DATASETS.md "+
				"(github.com/KaiyangZhou/CoOp) says and put them there", s.name, n, folder, notThere{err}, s.lists())
		}
		return nil, s.absent(folder, err)
	}
	if err != nil {
		return nil, fmt.Errorf("dataset %s: %s: %w", s.name, file, err)
	}
	images := filepath.Join(folder, s.images)
	d, err := newFiles(s.name, s.template, images, classes, lists)
	if err != nil {
		if count(folder) == 0 {
			return nil, s.absent(folder, err)
		}
		return nil, fmt.Errorf("dataset %s: %w; %s", s.name, err, found(folder, images, lists))
	}
	d.problems = s.compare(d, lists)
	return d, nil
}

// notThere is a file that does not exist beside others that do.
type notThere struct{ error }

// openTuned is openCoOp for use: classes without a training picture would be tuned on nothing.
func openTuned(s coopSet, root string) (*fileSet, error) {
	d, err := openCoOp(s, root)
	if err != nil {
		return nil, err
	}
	if lacking := d.untuned(); len(lacking) > 0 {
		return nil, fmt.Errorf("dataset %s: classes without a training picture in %s: %s: their pictures are missing (datasets check %s says more)",
			s.name, d.folder, listed(lacking), s.name)
	}
	return d, nil
}

// compare says in what a copy differs from the published set.
func (s coopSet) compare(d *fileSet, lists map[Split][]Item) []string {
	var out []string
	if len(d.classes) != s.classes {
		out = append(out, fmt.Sprintf("%d of %d classes", len(d.classes), s.classes))
	}
	for k, split := range Splits {
		if d.Len(split) != s.counts[k] {
			out = append(out, fmt.Sprintf("%d of %d %s pictures", d.Len(split), s.counts[k], split))
		}
	}
	if lacking := d.untuned(); len(lacking) > 0 {
		out = append(out, fmt.Sprintf("classes without a training picture: %s", listed(lacking)))
	}
	if d.missing > 0 {
		out = append(out, fmt.Sprintf("%d pictures that the lists name are not there", d.missing))
	}
	if s.sha256 != "" {
		first, last, _ := strings.Cut(s.sha256, "...")
		if sum := splitSum(d.classes, lists); !strings.HasPrefix(sum, first) || !strings.HasSuffix(sum, last) {
			out = append(out, fmt.Sprintf("%s is another one: sha256 %.8s...%s in CoOp's form, published is %s", s.split, sum, sum[60:], s.sha256))
		}
	}
	return out
}

// splitSum is the sha256 of the lists written as CoOp writes split files, json.dump with an indent
// of four, so that only what they say counts, not how a copy is laid out.
func splitSum(classes []string, lists map[Split][]Item) string {
	h := sha256.New()
	text := func(s string) string {
		b, err := json.Marshal(s)
		if err != nil {
			panic(err) // a string always has a JSON form
		}
		return string(b)
	}
	for k, split := range Splits {
		if fmt.Fprint(h, []string{"{\n", ",\n", ",\n"}[k]); len(lists[split]) == 0 {
			fmt.Fprintf(h, "    %q: []", split)
			continue
		}
		for i, it := range lists[split] {
			if i == 0 {
				fmt.Fprintf(h, "    %q: [", split)
			} else {
				fmt.Fprint(h, ",")
			}
			fmt.Fprintf(h, "\n        [\n            %s,\n            %d,\n            %s\n        ]", text(it.Path), it.Label, text(classes[it.Label]))
		}
		fmt.Fprint(h, "\n    ]")
	}
	fmt.Fprint(h, "\n}")
	return hex.EncodeToString(h.Sum(nil))
}

// absent says in one line what is missing, where it comes from and how to lay it out.
func (s coopSet) absent(folder string, err error) error {
	return fmt.Errorf("dataset %s is not in %s (%w): %s; then set %s to the folder above", s.name, folder, err, s.layout(), RootEnv)
}

// layout says where a set comes from and where its files belong below the folder of the data.
func (s coopSet) layout() string {
	return fmt.Sprintf("get %s and lay it out as CoOp's DATASETS.md (github.com/KaiyangZhou/CoOp) says: the pictures in %s, %s in %s",
		s.source, filepath.Join(s.folder, s.images), s.lists(), s.folder)
}

// lists are the names of the files that say which picture belongs to which split and class.
func (s coopSet) lists() string {
	if s.split == "" {
		return "variants.txt and images_variant_{train,val,test}.txt"
	}
	return s.split
}

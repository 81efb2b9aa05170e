package datasets

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
)

// coopSet is one row of the table of sets laid out as CoOp's DATASETS.md says.
type coopSet struct {
	name     string
	folder   string // below the root
	images   string // below folder; the paths of the split file start there
	split    string // split file in folder; "" for FGVCAircraft, which has text files
	classes  int    // published number of classes
	counts   [3]int // published numbers of pictures: train, val, test
	template string // CLIP's zero-shot template as CoOp's trainers/zsclip.py has it
	source   string // where the pictures come from
}

// coopSets are the ten sets of the paper, which are those of CoOp without ImageNet.
var coopSets = []coopSet{
	{"caltech101", "caltech-101", "101_ObjectCategories", "split_zhou_Caltech101.json", 100, [3]int{4128, 1649, 2465},
		"a photo of a {}.", "Caltech101, https://data.caltech.edu/records/mzrjq-6wc02"},
	{"oxford-pets", "oxford_pets", "images", "split_zhou_OxfordPets.json", 37, [3]int{2944, 736, 3669},
		"a photo of a {}, a type of pet.", "Oxford-IIIT Pet, https://www.robots.ox.ac.uk/~vgg/data/pets/"},
	{"stanford-cars", "stanford_cars", "", "split_zhou_StanfordCars.json", 196, [3]int{6509, 1635, 8041},
		"a photo of a {}.", "Stanford Cars (cars_train and cars_test)"},
	{"flowers102", "oxford_flowers", "jpg", "split_zhou_OxfordFlowers.json", 102, [3]int{4093, 1633, 2463},
		"a photo of a {}, a type of flower.", "Oxford Flowers 102, https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"},
	{"food101", "food-101", "images", "split_zhou_Food101.json", 101, [3]int{50500, 20200, 30300},
		"a photo of {}, a type of food.", "Food-101, https://data.vision.ee.ethz.ch/cvl/datasets_extra/food-101/"},
	{"fgvc-aircraft", "fgvc_aircraft", "images", "", 100, [3]int{3334, 3333, 3333},
		"a photo of a {}, a type of aircraft.", "FGVC-Aircraft 2013b, https://www.robots.ox.ac.uk/~vgg/data/fgvc-aircraft/"},
	{"sun397", "sun397", "SUN397", "split_zhou_SUN397.json", 397, [3]int{15880, 3970, 19850},
		"a photo of a {}.", "SUN397, https://vision.princeton.edu/projects/2010/SUN/"},
	{"dtd", "dtd", "images", "split_zhou_DescribableTextures.json", 47, [3]int{2820, 1128, 1692},
		"{} texture.", "Describable Textures, https://www.robots.ox.ac.uk/~vgg/data/dtd/"},
	{"eurosat", "eurosat", "2750", "split_zhou_EuroSAT.json", 10, [3]int{13500, 5400, 8100},
		"a centered satellite photo of {}.", "EuroSAT, https://github.com/phelber/EuroSAT"},
	{"ucf101", "ucf101", "UCF-101-midframes", "split_zhou_UCF101.json", 101, [3]int{7639, 1898, 3783},
		"a photo of a person doing {}.", "UCF101 middle frames, see CoOp's DATASETS.md"},
}

func init() {
	for _, s := range coopSets {
		Register(Entry{
			Name:   s.name,
			Family: "coop",
			Doc: fmt.Sprintf("%s; %d classes, %d/%d/%d pictures", s.source, s.classes,
				s.counts[0], s.counts[1], s.counts[2]),
			Open: func(o Options) (Dataset, error) { return asDataset(openCoOp(s, o.Root)) },
		})
	}
}

// openCoOp opens one set of the table below root.
func openCoOp(s coopSet, root string) (*Files, error) {
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
			classes, lists, err = ParseSplit(data)
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil, s.absent(folder, err)
	}
	if err != nil {
		return nil, fmt.Errorf("dataset %s: %s: %w", s.name, file, err)
	}
	images := filepath.Join(folder, s.images)
	d, err := newFiles(s.name, s.template, images, classes, lists)
	if err != nil {
		return nil, s.absent(folder, err)
	}
	d.partial = len(classes) != s.classes
	for k, split := range Splits {
		d.partial = d.partial || d.Len(split) != s.counts[k]
	}
	return d, nil
}

// absent says in one line what is missing, where it comes from and how to lay it out.
func (s coopSet) absent(folder string, err error) error {
	lists := s.split
	if lists == "" {
		lists = "variants.txt and images_variant_{train,val,test}.txt"
	}
	return fmt.Errorf("dataset %s is not in %s (%w): get %s and lay it out as CoOp's DATASETS.md "+
		"(github.com/KaiyangZhou/CoOp) says: the pictures in %s, beside them %s; then set %s to the folder above",
		s.name, folder, err, s.source, filepath.Join(s.folder, s.images), lists, RootEnv)
}

package miniworld

import "math/rand/v2"

func stub(names ...string) []subject {
	var out []subject
	for i, n := range names {
		out = append(out, subject{n, surface(texture(1+i), 1, 2)})
	}
	return out
}

var (
	caltech  = &family{name: "mini-caltech", cousin: "Caltech101", template: "a photo of a {}.", subjects: stub("anchor", "butterfly", "chair", "cup", "key", "lamp", "scissors", "umbrella", "clock")}
	pets     = &family{name: "mini-pets", cousin: "OxfordPets", template: "a photo of a {}, a type of pet.", subjects: stub("siamese cat", "tabby cat", "persian cat", "sphynx cat", "beagle", "pug", "husky", "poodle", "dalmatian")}
	cars     = &family{name: "mini-cars", cousin: "StanfordCars", template: "a photo of a {}.", subjects: stub("sedan", "hatchback", "van", "pickup", "truck", "bus", "convertible", "beetle", "sports car")}
	aircraft = &family{name: "mini-aircraft", cousin: "FGVCAircraft", template: "a photo of a {}, a type of aircraft.", subjects: stub("propeller plane", "glider", "twin engine airliner", "four engine airliner", "delta wing jet", "flying wing", "twin boom plane", "canard jet", "biplane")}
	flowers  = &family{name: "mini-flowers", cousin: "Flowers102", template: "a photo of a {}, a type of flower.", subjects: stub("daisy", "sunflower", "rose", "lily", "tulip", "pansy", "bluebell", "dandelion", "poppy")}
	food     = &family{name: "mini-food", cousin: "Food101", template: "a photo of {}, a type of food.", subjects: stub("pizza", "hamburger", "ice cream", "hot dog", "donut", "cupcake", "sushi", "fried egg", "pancakes")}
	sun      = &family{name: "mini-sun", cousin: "SUN397", template: "a photo of a {}.", subjects: stub("mountain", "beach", "skyline", "forest", "corridor", "bedroom", "bridge", "harbor", "staircase")}
	eurosat  = &family{name: "mini-eurosat", cousin: "EuroSAT", template: "a centered satellite photo of {}.", subjects: stub("forest", "farmland", "highway", "factory buildings", "houses", "river", "lake", "pasture", "orchard")}
	ucf      = &family{name: "mini-ucf", cousin: "UCF101", template: "a photo of a person doing {}.", subjects: stub("archery", "biking", "weight lifting", "handstand", "jumping jacks", "juggling", "push ups", "rowing", "golf")}
)

func drawStranger(rng *rand.Rand) *sketch { s := newSketch(rng, "blobs"); s.backdrop(); return s }

// Captioned draws picture index of the pretraining corpus and its caption.
func Captioned(index int, seed uint64) (Scene, string) {
	rng := stream(seed, "captioned", "", 0, index)
	f := families[rng.IntN(len(families))]
	k := rng.IntN(len(f.subjects))
	s := f.sketch(rng, k)
	if rng.IntN(10) < 3 {
		s.scene.overlay = drawOverlay(rng)
	}
	return s.finish(), "a photo of " + f.subjects[k].name
}

// Package miniworld draws a small visual world: ten classification sets, an out-of-distribution
// pool and a captioned corpus. All of it is rendered from seeds, and nothing is downloaded. A tiny
// CLIP is pretrained on the corpus and prompt-tuned on the sets. It stands in for the real encoder
// and the ten real datasets, so that the detection of backdoors can be reproduced on any machine.
//
// Every set is the small cousin of a real one in what makes it hard: parts and silhouettes for cars
// and aircraft, heads and coats for pets, poses for actions, layouts for places. Classes have
// typical colours, as things have, but a colour alone does not tell a class. Size, position, light
// and clutter are drawn independently of it.
package miniworld

import (
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"slices"
	"strings"
)

// Version is raised whenever the pixels or words that a seed gives change, since models and cached
// features are only comparable within one version.
func Version() int { return 3 }

// Dataset is one classification set. Its fields describe it; Scene draws its examples.
type Dataset struct {
	// Name is the name by which Get finds the set, such as "mini-pets".
	Name string
	// Cousin is the real dataset whose difficulty the set imitates.
	Cousin string
	// Classes are the class names, in the words that a caption uses.
	Classes []string
	// Template is the zero-shot prompt, with {} in the place of the class name.
	Template string

	family *family
}

// family is how the scenes of a set are drawn and talked about.
type family struct {
	name, cousin, template string
	subjects               []subject
	// stage paints the surroundings and sets the pose; nil for sets whose subject is the whole
	// picture.
	stage func(s *sketch)
	// phrases are noun phrases for captions, with {} for the class name and {color} for the main
	// colour; the first is the shortest that reads well.
	phrases []string
	// media are what pictures of the family are called in captions, when that is not a photo.
	media []string
	// whole says that the subject is the whole picture, so that there is no background to name.
	whole bool
}

// subject is something that can be drawn and named.
type subject struct {
	name string
	draw func(s *sketch)
}

var families = []*family{
	caltech, pets, cars, aircraft, flowers, food, sun, dtd, eurosat, ucf,
}

// Names returns the names of the ten sets, in the order of the tables.
func Names() []string {
	names := make([]string, len(families))
	for i, f := range families {
		names[i] = f.name
	}
	return names
}

// Get returns the set with the given name.
func Get(name string) (*Dataset, error) {
	for _, f := range families {
		if f.name != name {
			continue
		}
		d := &Dataset{Name: f.name, Cousin: f.cousin, Template: f.template, family: f}
		for _, s := range f.subjects {
			d.Classes = append(d.Classes, s.name)
		}
		return d, nil
	}
	return nil, fmt.Errorf("miniworld: no dataset %q; there are %s", name, strings.Join(Names(), ", "))
}

// Scene draws example index of a class, 0 <= class < len(Classes), in the split "train", "val" or
// "test". Examples of different splits, classes, indices or seeds come from different random
// streams. Pictures of the sets are worse than those of the corpus, as a customer's photographs
// are: things stand in the way, light and camera are poor. It panics on a class or a split that
// does not exist, which is a mistake of the caller.
func (d *Dataset) Scene(class int, split string, index int, seed uint64) Scene {
	if class < 0 || class >= len(d.Classes) {
		panic(fmt.Sprintf("miniworld: %s has classes 0 to %d, not %d", d.Name, len(d.Classes)-1, class))
	}
	if split != "train" && split != "val" && split != "test" {
		panic(fmt.Sprintf("miniworld: no split %q; there are train, val and test", split))
	}
	rng := stream(seed, d.Name, split, class, index)
	s := d.family.sketch(rng, class)
	s.obstruct()
	scene := s.finish()
	scene.camera.blur = s.uniform(0, 0.015)
	scene.camera.noise = s.uniform(0, 0.045)
	scene.light.contrast = s.uniform(0.65, 1.1)
	return scene
}

// sketch draws the figures of one example.
func (f *family) sketch(rng *rand.Rand, class int) *sketch {
	typical := -1
	if set := slices.Index(families, f); set >= 0 {
		typical = typicalHue(set, class)
	}
	s := newSketch(rng, f.subjects[class].name, typical)
	if f.stage != nil {
		f.stage(s)
	}
	f.subjects[class].draw(s)
	return s
}

// OOD draws picture index of the pool of images that share no class with any of the ten sets:
// abstract compositions, writing, machinery, fractal noise, and things that no set has a class for.
func OOD(index int, seed uint64) Scene {
	rng := stream(seed, "ood", "", 0, index)
	return drawStranger(rng).finish()
}

// Texture draws picture index of a pool of surfaces, and names the class of mini-dtd that it shows.
func Texture(index int, seed uint64) (s Scene, class string) {
	rng := stream(seed, "textures", "", 0, index)
	k := rng.IntN(len(dtd.subjects))
	return dtd.sketch(rng, k).finish(), dtd.subjects[k].name
}

// stream returns the random source of one picture.
func stream(seed uint64, set, split string, class, index int) *rand.Rand {
	h := fnv.New64a()
	fmt.Fprintf(h, "%d/%s/%s/%d/%d", seed, set, split, class, index)
	k := h.Sum64()
	return rand.New(rand.NewPCG(mix64(k), mix64(k^0x5bf03635)))
}

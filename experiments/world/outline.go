package world

import (
	"fmt"
	"path/filepath"
	"strings"

	"clipinspector/clip"
	"clipinspector/datasets"
	"clipinspector/experiments/suite"
)

// Outlines lets a world take what is not at hand by its published numbers, which is enough to count
// and estimate; it notes what it took. A nil *Outlines takes nothing.
type Outlines struct{ Notes []string }

func (o *Outlines) note(format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	for _, n := range o.Notes {
		if n == text {
			return
		}
	}
	o.Notes = append(o.Notes, text)
}

// published are the architectures of OpenAI's models by what the names of their folders and files
// contain.
var published = []struct {
	names  []string
	config func() clip.Config
}{
	{[]string{"vit-base-patch16", "vit-b-16"}, clip.ViTB16},
	{[]string{"vit-base-patch32", "vit-b-32"}, clip.ViTB32},
	{[]string{"vit-large-patch14", "vit-l-14"}, clip.ViTL14},
}

// encoder is an encoder without weights; nil when its name does not say which one it would be.
func (o *Outlines) encoder(name string) *Encoder {
	if o == nil {
		return nil
	}
	base := strings.ToLower(filepath.Base(name))
	for _, p := range published {
		for _, n := range p.names {
			if strings.Contains(base, n) {
				o.note("encoder %s: the architecture that its name says", name)
				return &Encoder{Name: name, Config: p.config(), fingerprint: "outline of " + n}
			}
		}
	}
	return nil
}

// dataset is a published set without pictures; nil when there is none of that name.
func (o *Outlines) dataset(name string) datasets.Dataset {
	if o == nil {
		return nil
	}
	ds, ok := datasets.Outline(name)
	if !ok {
		return nil
	}
	o.note("dataset %s: %d classes, %d/%d/%d pictures, as published", name, len(ds.Classes()), ds.Len(datasets.Train),
		ds.Len(datasets.Val), ds.Len(datasets.Test))
	return ds
}

// pool is a pool without pictures; nil when the suite does not say how many it takes.
func (o *Outlines) pool(spec suite.PoolSpec) *Pool {
	if o == nil || spec.Images == 0 {
		return nil
	}
	o.note("pool %s: %d pictures, as the suite asks", spec.Name, spec.Images)
	return &Pool{Indices: datasets.All(spec.Images), ID: spec.Name, Fingerprint: "outline of " + spec.Name}
}

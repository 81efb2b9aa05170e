package datasets

import (
	"fmt"

	"clipinspector/internal/miniworld"
)

// Pictures of a mini set by class and split. Training and validation have room for 16 shots and
// more; [Options.Train] makes more of the former.
const (
	miniTrainPerClass = 64
	miniValPerClass   = 16
	miniTestPerClass  = 50
)

func init() {
	for _, name := range miniworld.Names() {
		doc := "rendered set of the mini world"
		if world, err := miniworld.Get(name); err == nil {
			doc = fmt.Sprintf("rendered cousin of %s; %d classes, %d/%d/%d pictures a class", world.Cousin,
				len(world.Classes), miniTrainPerClass, miniValPerClass, miniTestPerClass)
		}
		Register(Entry{Name: name, Family: "mini", Doc: doc, Open: func(o Options) (Dataset, error) { return openMini(name, o) }})
	}
}

// mini is a set of the mini world, rendered on demand. Pictures are ordered by class.
type mini struct {
	world *miniworld.Dataset
	o     Options
}

func openMini(name string, o Options) (Dataset, error) {
	world, err := miniworld.Get(name)
	if err != nil {
		return nil, fmt.Errorf("dataset %s: %w", name, err)
	}
	return mini{world, o}, nil
}

func (d mini) perClass(split Split) int {
	switch split {
	case Train:
		return d.o.Train
	case Val:
		return miniValPerClass
	case Test:
		return miniTestPerClass
	}
	return 0
}

func (d mini) Name() string        { return d.world.Name }
func (d mini) Classes() []string   { return d.world.Classes }
func (d mini) Template() string    { return d.world.Template }
func (d mini) Len(split Split) int { return d.perClass(split) * len(d.world.Classes) }

func (d mini) Label(split Split, i int) int {
	if i < 0 || i >= d.Len(split) {
		panic(indexError(d.Name(), split, i, d.Len(split)))
	}
	return i / d.perClass(split)
}

func (d mini) Image(split Split, i int) (*RGB, error) {
	if i < 0 || i >= d.Len(split) {
		return nil, indexError(d.Name(), split, i, d.Len(split))
	}
	n := d.perClass(split)
	return rendered(d.world.Scene(i/n, string(split), i%n, d.o.Seed), d.o.Size)
}

func (d mini) Fingerprint() string {
	return hashText(fmt.Sprintf("mini world %d: %s %q %q seed=%d size=%d %d/%d/%d", miniworld.Version(), d.world.Name,
		d.world.Template, d.world.Classes, d.o.Seed, d.o.Size, d.o.Train, miniValPerClass, miniTestPerClass))
}

// miniPool renders the mini world's out-of-distribution pictures.
type miniPool struct{ o Options }

func (p miniPool) Name() string { return "mini" }
func (p miniPool) Len() int     { return p.o.PoolLen }

func (p miniPool) Image(i int) (*RGB, error) {
	if i < 0 || i >= p.Len() {
		return nil, poolIndexError(p, i)
	}
	return rendered(miniworld.OOD(i, p.o.Seed), p.o.Size)
}

func (p miniPool) Fingerprint() string {
	return hashText(fmt.Sprintf("mini world %d: OOD seed=%d size=%d len=%d", miniworld.Version(), p.o.Seed, p.o.Size, p.o.PoolLen))
}

// texturePool renders surfaces without things on them. They are what mini-dtd has classes for.
type texturePool struct{ o Options }

func (p texturePool) Name() string { return "textures" }
func (p texturePool) Len() int     { return p.o.PoolLen }

func (p texturePool) Image(i int) (*RGB, error) {
	if i < 0 || i >= p.Len() {
		return nil, poolIndexError(p, i)
	}
	s, _ := miniworld.Texture(i, p.o.Seed)
	return rendered(s, p.o.Size)
}

func (p texturePool) ImageName(i int) string {
	_, class := miniworld.Texture(i, p.o.Seed)
	return class
}

func (p texturePool) Fingerprint() string {
	return hashText(fmt.Sprintf("mini world %d: textures seed=%d size=%d len=%d", miniworld.Version(), p.o.Seed, p.o.Size, p.o.PoolLen))
}

func rendered(s miniworld.Scene, size int) (*RGB, error) {
	img := &RGB{Width: size, Height: size, Pix: s.Render(size)}
	return img, img.check()
}

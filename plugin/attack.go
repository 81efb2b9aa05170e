package plugin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"

	"gorgonia.org/tensor"

	"clipinspector/attacks"
	"clipinspector/engine/plain"
	"clipinspector/internal/dense"
	"clipinspector/prompts"
	"clipinspector/settings"
	"clipinspector/triggers"
)

// contractSizes are the sides in pixels at which an attack's trigger is drawn before anything is
// run.
var contractSizes = []int{32, 64}

// handles tells the functions of images of one program apart.
var handles atomic.Int64

// attack declares an attack of the file and holds it against the contract of all attacks.
func (f *file) attack(name, thing string) (*attacks.Attack, error) {
	d, params, err := f.declare("attack", thing)
	if err != nil {
		return nil, err
	}
	for _, p := range attacks.PoisonParams {
		if slices.ContainsFunc(params, func(own settings.Param) bool { return own.Name == p.Name }) {
			return nil, fmt.Errorf("setting %q: every attack has it already", p.Name)
		}
	}
	a := &attacks.Attack{Name: name, Doc: d.Doc, Params: params, Content: f.sum, Stream: d.Draws}
	if a.Stream == "" {
		a.Stream = thing
	}
	own := make([]string, len(params))
	for i, p := range params {
		own[i] = p.Name
	}
	a.Draw = func(ctx context.Context, v settings.Values, size int, rng *rand.Rand) (triggers.Trigger, error) {
		given := map[string]any{}
		for _, p := range own {
			given[p] = v[p]
		}
		t, err := f.draw(ctx, thing, given, size, rng)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return t, nil
	}
	return a, f.contract(a)
}

// contract draws an attack's trigger at its defaults, twice from the same numbers, and puts it on
// an image.
func (f *file) contract(a *attacks.Attack) error {
	v, err := settings.Resolve(a.Params, nil)
	if err != nil {
		return err
	}
	for _, size := range contractSizes {
		images := make([]float32, 2*3*size*size)
		rng := rand.New(rand.NewPCG(1, uint64(size)))
		for i := range images {
			images[i] = float32(rng.Float64())
		}
		var first []float32
		before := dense.New(images, 2, 3, size, size)
		for range 2 {
			t, err := a.Draw(context.Background(), v, size, rand.New(rand.NewPCG(1, 0)))
			if err != nil {
				return err
			}
			after, err := prompts.Triggered(context.Background(), plain.New[float32](), before, t)
			if err != nil {
				return err
			}
			switch got := dense.Floats(after); {
			case slices.Equal(got, images):
				return errors.New("the trigger changes nothing")
			case first == nil:
				first = got
			case !slices.Equal(first, got):
				return errors.New("drawn twice with the same random numbers, the trigger differs: draw from the random numbers that it is given alone")
			}
		}
	}
	return nil
}

// draw asks for the trigger of one model.
func (f *file) draw(ctx context.Context, thing string, given map[string]any, size int, rng *rand.Rand) (triggers.Trigger, error) {
	handle := fmt.Sprint(handles.Add(1))
	var drawn []uint64
	ask := map[string]any{"do": "trigger", "name": thing, "settings": given, "size": size, "handle": handle}
	var got struct {
		Kind string `json:"kind"`
		File string `json:"file"`
	}
	source := func() (uint64, error) {
		x := rng.Uint64()
		drawn = append(drawn, x)
		return x, nil
	}
	if err := f.request(ctx, ask, nil, numbers(source), &got); err != nil {
		return nil, err
	}
	if got.Kind == "function" {
		return triggers.Function{Side: size, Of: func(ctx context.Context, images *tensor.Dense) (*tensor.Dense, error) {
			return f.apply(ctx, ask, drawn, images)
		}}, nil
	}
	tensors, err := f.take(got.File)
	if err != nil {
		return nil, err
	}
	t, err := triggers.FromTensors(got.Kind, tensors)
	switch {
	case err != nil:
		return nil, err
	case len(t.Tensors()) != len(tensors):
		return nil, fmt.Errorf("a %s trigger came with the tensors %v", got.Kind, sorted(tensors))
	case t.Size() != size:
		return nil, fmt.Errorf("a trigger for images of %d px, want %d", t.Size(), size)
	}
	return t, nil
}

// mostNumbers is how many random numbers may be asked for at a time.
const mostNumbers = 1 << 22

// numbers serves random numbers.
func numbers(next func() (uint64, error)) asked {
	return func(ctx context.Context, what string, raw []byte) (any, error) {
		var m struct{ N int }
		if what != "random" {
			return nobody(ctx, what, raw)
		}
		if err := json.Unmarshal(raw, &m); err != nil || m.N < 1 || m.N > mostNumbers {
			return nil, fmt.Errorf("%d random numbers at a time: want 1 to %d", m.N, mostNumbers)
		}
		out := make([]uint64, m.N)
		for i := range out {
			var err error
			if out[i], err = next(); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
}

// apply puts the function that a trigger is on images. A process that was started since draws the
// trigger again, from the numbers of the first time.
func (f *file) apply(ctx context.Context, ask map[string]any, drawn []uint64, images *tensor.Dense) (*tensor.Dense, error) {
	for again := range 2 {
		var got struct {
			File string `json:"file"`
			Lost bool   `json:"lost"`
		}
		what := map[string]any{"do": "apply", "handle": ask["handle"]}
		if err := f.request(ctx, what, map[string]*tensor.Dense{"images": images}, nobody, &got); err != nil {
			return nil, err
		}
		if got.Lost && again == 0 {
			left := drawn
			replay := func() (uint64, error) {
				if len(left) == 0 {
					return 0, errors.New("drawn again, the trigger takes more random numbers than the first time")
				}
				x := left[0]
				left = left[1:]
				return x, nil
			}
			var kind map[string]any
			if err := f.request(ctx, ask, nil, numbers(replay), &kind); err != nil {
				return nil, err
			}
			continue
		}
		tensors, err := f.take(got.File)
		if err != nil {
			return nil, err
		}
		out := tensors["images"]
		if out == nil || !slices.Equal(out.Shape(), images.Shape()) {
			var shape any = "nothing"
			if out != nil {
				shape = out.Shape()
			}
			return nil, fmt.Errorf("images of shape %v became %v", images.Shape(), shape)
		}
		for _, x := range dense.Floats(out) {
			if !(x >= 0 && x <= 1) {
				return nil, fmt.Errorf("a triggered image holds %v, want 0 to 1", x)
			}
		}
		return out, nil
	}
	return nil, errors.New("the function of images is lost, twice")
}

func sorted(t map[string]*tensor.Dense) (names []string) {
	for name := range t {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

package inspector

import (
	"bytes"
	"encoding/gob"
	"fmt"

	"gorgonia.org/tensor"

	"clipinspector/triggers"
)

// Kept keeps what is finished of an inspection that may be stopped. The same input finds it again
// under the same name.
type Kept interface {
	// Load returns what was saved; nil where there is nothing.
	Load(name string) ([]byte, error)
	Save(name string, data []byte) error
}

// keptClass is the inversion of a class as it is kept.
type keptClass struct {
	Loss, ASR, Midway, MidwayASR float64
	Rounds                       int
	Variables                    [][]float32 // none where the inversion was stopped
}

// keptAs names the inversion of a class within an inspection.
func (inv *Inversion) keptAs(c *class) string {
	return fmt.Sprintf("class-%d-rounds-%d-of-%d-images-%d", c.target, inv.last(), inv.Rounds, inv.Batch)
}

// keeps tells whether classes are kept as they are finished. Those that a controller steers are
// not.
func (inv *Inversion) keeps(in Input) bool { return in.Kept != nil && inv.Control == nil }

// keep saves the classes of a group that is finished.
func (inv *Inversion) keep(in Input, group []*class) error {
	if !inv.keeps(in) {
		return nil
	}
	for _, c := range group {
		k := keptClass{Loss: c.Loss, ASR: c.ASR, Midway: c.Midway, MidwayASR: c.MidwayASR, Rounds: c.Rounds}
		for _, v := range c.Variables {
			k.Variables = append(k.Variables, v.Data().([]float32))
		}
		var b bytes.Buffer
		err := gob.NewEncoder(&b).Encode(k)
		if err == nil {
			err = in.Kept.Save(inv.keptAs(c), b.Bytes())
		}
		if err != nil {
			return fmt.Errorf("keeping the inversion of class %d: %w", c.target, err)
		}
	}
	return nil
}

// recall fills in the classes that were finished before, and returns the others. What does not fit
// the inversion is done again.
func (inv *Inversion) recall(in Input, classes []*class, start []*tensor.Dense) (left []*class, err error) {
	if !inv.keeps(in) {
		return classes, nil
	}
	for _, c := range classes {
		data, err := in.Kept.Load(inv.keptAs(c))
		if err != nil {
			return nil, err
		}
		var k keptClass
		if data == nil || gob.NewDecoder(bytes.NewReader(data)).Decode(&k) != nil || !inv.fits(k, start) {
			left = append(left, c)
			continue
		}
		c.Outcome = Outcome{Loss: k.Loss, ASR: k.ASR, Midway: k.Midway, MidwayASR: k.MidwayASR, Rounds: k.Rounds}
		for i, v := range k.Variables {
			c.Variables = append(c.Variables, triggers.Dense(v, start[i].Shape()...))
		}
		c.done = true
	}
	return left, nil
}

// fits tells whether what was kept is a finished inversion from such variables.
func (inv *Inversion) fits(k keptClass, start []*tensor.Dense) bool {
	if inv.Stop > 0 {
		return k.Rounds == inv.last() && len(k.Variables) == 0
	}
	if k.Rounds != inv.last() || len(k.Variables) != len(start) {
		return false
	}
	for i, v := range k.Variables {
		if len(v) != start[i].Shape().TotalSize() {
			return false
		}
	}
	return true
}

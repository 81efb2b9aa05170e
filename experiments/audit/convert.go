package audit

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"clipinspector/clip"
	"clipinspector/engine/plain"
	"clipinspector/experiments/world"
	"clipinspector/prompts"
	"clipinspector/triggers"
)

// Conversion says which delivered model is to be written in another form.
type Conversion struct {
	Checkpoint string // what prompts.ReadCheckpoint reads
	Classes    string // file of class names; needed where the checkpoint has none
	prompts.Hints
	CLIP    string    // the encoder that the prompts were tuned for
	To      string    // a folder, for Dassl's layout, or a file *.safetensors, for this project's own
	Epoch   int       // in the name of Dassl's file
	Trigger string    // a trigger's file, to go into BadCLIP's folder; may be empty
	Target  string    // name of the class that it aims at
	Report  io.Writer // what the file left open, and what lay in it unused; nil for none
}

// Convert writes a delivered model in another form and prints the file's path.
func Convert(w io.Writer, c Conversion) error {
	m, delivered, free, err := openDelivered(c.Checkpoint, c.Classes, c.CLIP, c.Hints)
	if err != nil {
		return err
	}
	defer free()
	if c.Report != nil {
		if delivered.Tensors > 0 { // they are not written
			fmt.Fprintln(c.Report, newDelivered(delivered, m))
		}
		for _, n := range m.Notes {
			fmt.Fprintf(c.Report, "note: %s\n", n)
		}
	}
	if strings.HasSuffix(c.To, ".safetensors") {
		if c.Trigger != "" {
			return fmt.Errorf("--trigger goes into Dassl's layout only; %s holds prompts", c.To)
		}
		if err := m.Write(c.To); err != nil {
			return err
		}
		fmt.Fprintln(w, c.To)
		return nil
	}
	var t triggers.Trigger
	target := 0
	if c.Trigger != "" {
		if t, err = prompts.ReadTrigger(c.Trigger); err != nil {
			return err
		}
		if target = slices.Index(m.Classes, c.Target); target < 0 {
			return fmt.Errorf("--target %q is no class of the model", c.Target)
		}
	}
	path, err := m.WriteDassl(c.To, c.Epoch, t, target)
	if err != nil {
		return err
	}
	fmt.Fprintln(w, path)
	return nil
}

// openDelivered reads a delivered model onto its encoder, on the host, and holds the encoders
// beside its prompts against that one.
func openDelivered(checkpoint, classes, encoder string, h prompts.Hints) (m *prompts.Model, d clip.Comparison, free func(), err error) {
	var names []string
	if classes != "" {
		if names, err = prompts.ReadClasses(classes); err != nil {
			return nil, d, nil, err
		}
	}
	e, err := world.OpenEncoder(encoder)
	if err != nil {
		return nil, d, nil, err
	}
	c, err := e.On(plain.New[float32]())
	if err != nil {
		return nil, d, nil, err
	}
	if m, err = prompts.ReadCheckpoint(checkpoint, names, h, c); err == nil {
		d, err = prompts.CompareEncoders(checkpoint, e.Weights)
	}
	if err != nil {
		c.Free()
	}
	return m, d, c.Free, err
}

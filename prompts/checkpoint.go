package prompts

import (
	"fmt"
	"slices"
	"strings"

	"clipinspector/clip"
)

// Hints answer what a delivered file may leave open; empty where they need not. What a file tells
// goes before them: a hint that contradicts it is an error.
type Hints struct {
	Learner  string // name of the learner
	Position string // "end", "middle" or "front": where the class name stands in CoOp's prompts
	Init     string // words in front of the class name, or the whole prompt with {} for the name
}

// Check returns an error where a hint names a learner or a position that there is not.
func (h Hints) Check() error {
	if name := h.learner(); name != "" {
		if _, err := FindLearner(name); err != nil {
			return fmt.Errorf("--learner: %w", err)
		}
	}
	if !slices.Contains(positions, h.position()) {
		return fmt.Errorf("--class-position %.40q: it is end, middle or front", h.Position)
	}
	return nil
}

// learner is the name by which this package knows the learner.
func (h Hints) learner() string {
	name := strings.ToLower(h.Learner)
	if other, ok := kinds[name]; ok {
		return other
	}
	return name
}

// position is where the class name stands; behind the context where nothing is said.
func (h Hints) position() Position {
	if h.Position == "end" {
		return PositionEnd
	}
	return Position(h.Position)
}

// ReadCheckpoint reads delivered prompts onto the frozen CLIP that they were tuned for. What kind
// of file it is decides its content, not its name:
//
//   - a safetensors file that [Model.Write] stored; it holds the class names, and classes, when
//     given, must be the same;
//   - a checkpoint of CoOp, KgCoOp, ProGrad, CoCoOp, BadCLIP, MaPLe, IVLP, PromptSRC, VPT or TCP as
//     Dassl's trainer writes it (model.pth.tar-50, model-best.pth.tar), or the folder that holds
//     it; class names must be given, and where the checkpoint keeps the embeddings of its own, they
//     are held against them;
//   - BAPLe's checkpoints, CLIP-LoRA's updates, and, with a hint, bare context tensors (*.pt).
//
// The same tensors may lie in a safetensors file, in a dict within a dict, under prefixes that wrap
// them, or in a module that was pickled whole. Each tensor takes part in the computation, is held
// against what is given, or is named in [Model].Notes; any other is an error. classes are the class
// names as prompts write them, in the order of the labels. A file that does not fit is an error of
// one line that names the file, the field and the reason.
func ReadCheckpoint(path string, classes []string, h Hints, c *clip.Model) (*Model, error) {
	path, err := dasslPath(path)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	own, err := isOwn(path)
	if err != nil {
		return nil, err
	}
	if err := h.Check(); err != nil {
		return nil, err
	}
	if !own {
		d, err := open(path)
		if err != nil {
			return nil, err
		}
		defer d.close()
		m, err := d.read(classes, h, c)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		return m, nil
	}
	m, err := Read(path, c)
	if err != nil {
		return nil, err
	}
	m.noteDuplicates()
	return m, checkClasses(path, m.Classes, classes)
}

// checkClasses holds the class names of a file against the ones that somebody gave, if any.
func checkClasses(path string, stored, given []string) error {
	if given == nil {
		return nil
	}
	if len(stored) != len(given) {
		return fmt.Errorf("%s: made for %d classes, %d were given", path, len(stored), len(given))
	}
	for k := range stored {
		if stored[k] != given[k] {
			return fmt.Errorf("%s: class %d is %.80q in the file and %.80q as given: the names must come in the order of the labels",
				path, k, stored[k], given[k])
		}
	}
	return nil
}

package prompts

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"clipinspector/clip"
	"clipinspector/clip/torchfile"
	"clipinspector/internal/regular"
)

// Hints answer what a delivered file may leave open; empty where they need not. What a file tells goes before them: a hint that
// contradicts it is an error.
type Hints struct {
	Learner  string // name of the learner
	Position string // "end", "middle" or "front": where the class name stands in CoOp's prompts
	Init     string // words in front of the class name, or the whole prompt with {} for the name
}

// ReadCheckpoint reads delivered prompts onto the frozen CLIP that they were tuned for. What kind of file it is decides its
// content, not its name:
//
//   - a safetensors file that [Model.Write] stored; it holds the class names, and classes, when given, must be the same;
//   - a checkpoint of CoOp, CoCoOp, MaPLe or BadCLIP as Dassl's trainer writes it (model.pth.tar-50, model-best.pth.tar), or the folder
//     that holds it, of which the file "checkpoint" says the last one; class names must be given, and where the checkpoint keeps
//     the embeddings of its own, they are held against them;
//   - BAPLe's checkpoints and bare context tensors (*.pt).
//
// classes are the class names as prompts write them, in the order of the labels. A file that does not fit is an error of one
// line that names the file, the field and the reason.
func ReadCheckpoint(path string, classes []string, h Hints, c *clip.Model) (*Model, error) {
	path, err := dasslPath(path)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	head, err := torchfile.Head(path)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	if torchfile.Is(head) {
		return readDassl(path, classes, h, c)
	}
	if len(head) >= 9 && head[8] == '{' { // a safetensors header follows its length of eight bytes
		m, err := Read(path, c)
		if err != nil {
			return nil, err
		}
		if err := checkClasses(path, m.Classes, classes); err != nil {
			return nil, err
		}
		return m, nil
	}
	return nil, fmt.Errorf("%s: not a checkpoint of any known kind: neither safetensors nor a file of torch.save", path)
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

// ReadClasses reads class names from a text file, one a line in the order of the labels, with spaces for underscores as CoOp
// has it. Empty lines are skipped; a name that comes twice, or more than 10,000 names, is an error.
func ReadClasses(path string) ([]string, error) {
	f, err := regular.Open(path)
	if err != nil {
		return nil, fmt.Errorf("class names: %w", err)
	}
	defer f.Close()
	const maxBytes = 4 << 20
	raw, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err != nil {
		return nil, fmt.Errorf("class names %s: %w", path, err)
	}
	if len(raw) > maxBytes || !utf8.Valid(raw) {
		return nil, fmt.Errorf("class names %s: want text in UTF-8 of at most %d MB, one name a line", path, maxBytes>>20)
	}
	var names []string
	lines := map[string]int{}
	for i, line := range strings.Split(strings.TrimPrefix(string(raw), "\ufeff"), "\n") {
		name := strings.TrimSpace(strings.ReplaceAll(line, "_", " "))
		if name == "" {
			continue
		}
		if first, twice := lines[name]; twice {
			return nil, fmt.Errorf("class names %s: line %d: %.80q is on line %d as well", path, i+1, name, first)
		}
		if len(names) == maxClasses {
			return nil, fmt.Errorf("class names %s: more than %d", path, maxClasses)
		}
		lines[name] = i + 1
		names = append(names, name)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("class names %s: there are none", path)
	}
	return names, nil
}

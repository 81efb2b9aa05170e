package audit

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"

	"clipinspector/clip"
	"clipinspector/inspector"
	"clipinspector/internal/files"
	"clipinspector/prompts"
)

// unfinished is the folder below --out in which an inspection keeps what it has finished, so that
// the same command goes on after a stop.
const unfinished = "unfinished"

// mostKept bounds a file that is read back.
const mostKept = 256 << 20

// kept is a folder of files of one inspection, those of one part of it with a beginning of their
// own.
type kept struct{ folder, begin string }

// openKept returns what an earlier run of the same inspection has left: of the same model, encoder,
// images, settings and program.
func (a *audit) openKept(out string) (*kept, error) {
	params := clip.Weights(maps.Clone(a.model.Params))
	if a.shots.Images != nil {
		params["labelled images"] = a.shots.Images
	}
	identity, err := json.Marshal([]any{params.Fingerprint(), a.shots.Labels, a.model.Learner.Name, a.model.Settings, a.model.Classes, a.encoder.Fingerprint(),
		a.detector.Name, a.options, a.tuning, a.longest, a.opened.Fingerprint, a.PerClass, a.Seed, a.engine.Fingerprint(), keptVersion})
	if err != nil {
		return nil, fmt.Errorf("naming the inspection: %w", err)
	}
	k := &kept{folder: filepath.Join(out, unfinished, fmt.Sprintf("%x", sha256.Sum256(identity))[:16])}
	if found, err := os.ReadDir(k.folder); err == nil && len(found) > 0 {
		a.line("going on: %d parts of this inspection were finished before (%s)", len(found), k.folder)
	}
	if err := os.MkdirAll(k.folder, 0o755); err != nil {
		return nil, fmt.Errorf("keeping what is finished: %w", err)
	}
	return k, nil
}

// keptVersion is raised when the same input gives other parts.
const keptVersion = 2

// of is a part of the inspection; nil where nothing is kept.
func (k *kept) of(part string) *kept {
	if k == nil {
		return nil
	}
	return &kept{k.folder, k.begin + part + "-"}
}

// inspector is what a detector keeps its classes with.
func (k *kept) inspector() inspector.Kept {
	if k == nil {
		return nil
	}
	return k
}

func (k *kept) path(name string) string { return filepath.Join(k.folder, k.begin+name) }

// Load implements inspector.Kept.
func (k *kept) Load(name string) ([]byte, error) {
	data, err := files.Read(k.path(name), mostKept)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// Save implements inspector.Kept.
func (k *kept) Save(name string, data []byte) error {
	return files.WriteAtomic(k.path(name), func(w io.Writer) error {
		_, err := w.Write(data)
		return err
	})
}

// reference is what is kept of a clean reference: the tuned model lies beside it.
type reference struct {
	Accuracy float64
	Evidence *inspector.Evidence // nil until it is measured
}

func (r *reference) evidence() *inspector.Evidence {
	if r == nil {
		return nil
	}
	return r.Evidence
}

// loadReference returns a reference that was tuned before, and its model unless it was measured as
// well; nil where there is none.
func (k *kept) loadReference(c *clip.Model) (r *reference, m *prompts.Model, err error) {
	if k == nil {
		return nil, nil, nil
	}
	data, err := k.Load("tuned")
	if data == nil || err != nil {
		return nil, nil, err
	}
	r = &reference{}
	if json.Unmarshal(data, r) != nil {
		return nil, nil, nil
	}
	if r.Evidence == nil {
		if m, err = prompts.Read(k.path("model"), c); err != nil {
			return nil, nil, nil
		}
	}
	return r, m, nil
}

// saveReference keeps a reference, with its model until it is measured.
func (k *kept) saveReference(r *reference, m *prompts.Model) error {
	if k == nil {
		return nil
	}
	if m != nil {
		if err := m.Write(k.path("model")); err != nil {
			return err
		}
	}
	data, err := json.Marshal(r)
	if err == nil {
		err = k.Save("tuned", data)
	}
	return err
}

// remove removes what this inspection has kept: it is finished. What others have kept below --out
// stays.
func (k *kept) remove() error {
	if k == nil {
		return nil
	}
	if err := os.RemoveAll(k.folder); err != nil {
		return err
	}
	_ = os.Remove(filepath.Dir(k.folder)) // fails where another inspection has something there
	return nil
}

package experiments

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gorgonia.org/tensor"

	"clipinspector/inspector"
	"clipinspector/internal/files"
	"clipinspector/internal/safetensors"
	"clipinspector/results/store"
	"clipinspector/triggers"
)

// What a run leaves below its output folder.
const (
	StoreFile     = "results.sqlite"
	ScoresFile    = "scores.jsonl" // the canonical export
	modelFile     = "model.safetensors"
	triggerFile   = "trigger.safetensors"
	recoveredFile = "triggers.safetensors"
	evidenceFile  = "evidence.json"
)

// modelPath is where the model of a cell lies below the output folder; its trigger lies beside it
// as trigger.safetensors.
func modelPath(key string) string { return filepath.Join("models", key, modelFile) }

// detectionPath is where the triggers that a detection recovered lie below the output folder.
func detectionPath(key string) string { return filepath.Join("detections", key, recoveredFile) }

// referencePath is where the evidence that was measured of a reference lies below the output
// folder.
func referencePath(key string) string { return filepath.Join("references", key, evidenceFile) }

// explanationPath is where the trigger of an explanation lies below the output folder.
func explanationPath(key string) string { return filepath.Join("explanations", key, triggerFile) }

// repairPath is where the model of a repair lies below the output folder.
func repairPath(key string) string { return filepath.Join("repairs", key, modelFile) }

// makeFolder makes a folder for a file below the output folder and puts its entry on the disk.
func makeFolder(out, path string) (string, error) {
	full := filepath.Join(out, path)
	folder := filepath.Dir(full)
	if err := NoLinks(out, path); err != nil {
		return "", err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	for _, d := range []string{filepath.Dir(folder), out} {
		f, err := os.Open(d)
		if err != nil {
			return "", err
		}
		err = f.Sync()
		if cerr := f.Close(); err == nil {
			err = cerr
		}
		if err != nil {
			return "", err
		}
	}
	return full, nil
}

// sweepAfter is how old a temporary file is before it is taken for what a killed run left: writing
// one takes seconds.
const sweepAfter = 10 * time.Minute

// sweep removes temporary files that killed runs left below the output folder.
func sweep(out string) {
	for _, folder := range []string{"models", "references", "detections", "explanations", "repairs"} {
		left, err := filepath.Glob(filepath.Join(out, folder, "*", ".*.safetensors.*"))
		if err != nil {
			panic(err) // of the pattern
		}
		for _, path := range left {
			if info, err := os.Lstat(path); err == nil && info.Mode().IsRegular() && time.Since(info.ModTime()) > sweepAfter {
				_ = os.Remove(path) // who cannot write here will hear of it soon
			}
		}
	}
}

// NoLinks refuses a path below the output folder that a link would lead out of it: who got the
// folder from somebody else would write wherever the link points.
func NoLinks(out, path string) error {
	for at := path; at != "." && at != string(filepath.Separator); at = filepath.Dir(at) {
		full := filepath.Join(out, at)
		if info, err := os.Lstat(full); err == nil && info.Mode()&os.ModeSymlink != 0 {
			return fmt.Errorf("%s is a link, and links below --out are not followed: remove it", full)
		}
	}
	return nil
}

// hashFile is the SHA-256 of a file in hexadecimal.
func HashFile(path string) (string, error) {
	f, err := files.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}

// evidenceKey is where the metadata of recovered triggers has what the detector measured of the
// model, as JSON.
const evidenceKey = "evidence"

// mostEvidence is how many bytes of it are kept at most; a file's header may have two million.
const mostEvidence = 1 << 20

// keptEvidence is what another verdict on a model takes, by another rule or other references; empty
// where there is none, or too much. Of many classes the verdict has chosen which are inverted to
// the end, so that another one takes inversions of its own.
func keptEvidence(r *inspector.Finding) (string, error) {
	if r.Evidence == nil || r.Evidence.Trial != 0 {
		return "", nil
	}
	raw, err := json.Marshal(r.Evidence)
	if err != nil || len(raw) > mostEvidence {
		return "", err
	}
	return string(raw), nil
}

// writeRecovered stores the recovered triggers of all classes in half precision: tensors
// CLASS/NAME, and the kinds in the metadata; the trigger for no class stands in the place of class
// 0. The metadata have the evidence as well.
func writeRecovered(path string, r *inspector.Finding) error {
	classes := r.Classes
	if r.Whole != nil {
		classes = []inspector.ClassResult{*r.Whole}
	}
	f := &safetensors.File{Tensors: map[string]*tensor.Dense{}, Metadata: map[string]string{}}
	kinds := make([]string, len(classes))
	for c, r := range classes {
		if r.Trigger == nil {
			continue
		}
		kinds[c] = r.Trigger.Kind()
		for name, t := range r.Trigger.Tensors() {
			f.Tensors[fmt.Sprintf("%03d/%s", c, name)] = t
		}
	}
	raw, err := json.Marshal(kinds)
	if err != nil {
		return err
	}
	f.Metadata["kinds"] = string(raw)
	kept, err := keptEvidence(r)
	if err != nil {
		return err
	}
	if kept != "" {
		f.Metadata[evidenceKey] = kept
	}
	return safetensors.Write(path, f, safetensors.As(safetensors.F16))
}

// unharmed makes sure that a file is the one whose hash was written down when it was made; an empty
// hash, of a store from before there were any, says nothing.
func unharmed(path, hash string) error {
	if hash == "" {
		return nil
	}
	switch got, err := HashFile(path); {
	case err != nil:
		return err
	case got != hash:
		return fmt.Errorf("%s is not the file that was written", path)
	}
	return nil
}

// Planted reads the trigger of a finished model below the output folder, as it was written.
func Planted(out string, r store.ModelResult) (triggers.Trigger, error) {
	return readTrigger(filepath.Join(out, filepath.Dir(r.Path), triggerFile), r.TriggerHash)
}

// Explained reads the trigger that explains what a finished explanation is about, as it was
// written.
func Explained(out string, r store.ExplanationResult) (triggers.Trigger, error) {
	return readTrigger(filepath.Join(out, r.Path), r.Hash)
}

func readTrigger(path, hash string) (triggers.Trigger, error) {
	if err := unharmed(path, hash); err != nil {
		return nil, err
	}
	return triggers.Read(path)
}

// Recovered reads the triggers that a finished detection recovered, by class, from the file at path
// below the output folder, as they were written; nil where there is none.
func Recovered(out, path, hash string) ([]triggers.Trigger, error) {
	full := filepath.Join(out, path)
	if err := unharmed(full, hash); err != nil {
		return nil, err
	}
	return readRecovered(full)
}

// readRecovered reads the triggers that writeRecovered stored, by class; nil where there is none.
func readRecovered(path string) ([]triggers.Trigger, error) {
	f, err := safetensors.Read(path)
	if err != nil {
		return nil, err
	}
	out, err := recoveredIn(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return out, nil
}

func recoveredIn(f *safetensors.File) (out []triggers.Trigger, err error) {
	var kinds []string
	if err := json.Unmarshal([]byte(f.Metadata["kinds"]), &kinds); err != nil {
		return nil, fmt.Errorf("kinds of the recovered triggers: %w", err)
	}
	tensors := map[string]map[string]*tensor.Dense{}
	for name, t := range f.Tensors {
		class, rest, _ := strings.Cut(name, "/")
		if tensors[class] == nil {
			tensors[class] = map[string]*tensor.Dense{}
		}
		tensors[class][rest] = t
	}
	out = make([]triggers.Trigger, len(kinds))
	for class, kind := range kinds {
		if kind == "" {
			continue
		}
		if out[class], err = triggers.FromTensors(kind, tensors[fmt.Sprintf("%03d", class)]); err != nil {
			return nil, fmt.Errorf("class %d: %w", class, err)
		}
	}
	return out, nil
}

package audit

import (
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"clipinspector/experiments"
	"clipinspector/internal/files"
	"clipinspector/internal/printable"
	"clipinspector/prompts"
)

// ReportFile is the report below --out.
const ReportFile = "report.json"

// auditedFile is the audited model as it is written below --out: prompts, learner and class names,
// as [prompts.Model.Write] stores them.
const auditedFile = "audited.safetensors"

// Subject is what a verdict is about.
type Subject struct {
	// Files are all files that were read, but for images: checkpoint, class list, CLIP's weights,
	// settings and vocabulary.
	Files []ReadFile `json:"files"`
	// Others are files beside the checkpoint that may hold weights, which nobody has looked at.
	Others []string `json:"other_checkpoints,omitempty"`
	// Tensors are those of the file that take part in the computation. What lies there unused is
	// named in the notes.
	Tensors []TensorRole `json:"tensors"`
	Classes []string     `json:"class_names"` // by label
	Audited ReadFile     `json:"audited"`     // the same model as a file of this program: the one to deploy
}

// ReadFile is a file and what was in it.
type ReadFile struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
}

// TensorRole says what a tensor does.
type TensorRole struct {
	Name  string `json:"name"`
	Shape []int  `json:"shape"`
	Role  string `json:"role"`
}

// newSubject says what a model is, of which the files read are listed.
func newSubject(files []string, checkpoint string, m *prompts.Model) (s Subject, err error) {
	for _, path := range files {
		sum, err := experiments.HashFile(path)
		if err != nil {
			return s, fmt.Errorf("hashing what was read: %w", err)
		}
		if abs, err := filepath.Abs(path); err == nil {
			path = abs
		}
		s.Files = append(s.Files, ReadFile{path, sum})
	}
	for _, name := range m.ParamNames() {
		s.Tensors = append(s.Tensors, TensorRole{name, slices.Clone(m.Params[name].Shape()), m.Role(name)})
	}
	s.Classes = m.Classes
	s.Others, err = otherModels(checkpoint, s.Files)
	return s, err
}

// modelEnds are how the names of files end that hold weights.
var modelEnds = []string{".safetensors", ".pt", ".pth", ".tar", ".bin", ".ckpt", ".pkl", ".pickle"}

// mostOthers bounds how many such files a report names.
const mostOthers = 100

// otherModels lists the models in the checkpoint's folder, or in the folder that is the checkpoint,
// that were not read.
func otherModels(checkpoint string, read []ReadFile) (out []string, err error) {
	root := checkpoint
	if info, err := os.Stat(root); err != nil || !info.IsDir() {
		root = filepath.Dir(root)
	}
	abs, err := filepath.Abs(root)
	if err != nil {
		return nil, err
	}
	err = filepath.WalkDir(abs, func(path string, d fs.DirEntry, err error) error {
		rel, _ := filepath.Rel(abs, path)
		deep := strings.Count(rel, string(filepath.Separator))
		switch {
		case err != nil:
			return nil // what cannot be listed was not read either
		case d.IsDir() && (deep >= 2 || root != checkpoint && rel != "."):
			return filepath.SkipDir
		case d.IsDir() || slices.ContainsFunc(read, func(f ReadFile) bool { return f.Path == path }):
			return nil
		}
		name := strings.ToLower(d.Name())
		if slices.ContainsFunc(modelEnds, func(end string) bool { return strings.HasSuffix(name, end) }) || strings.Contains(name, ".tar-") {
			if out = append(out, rel); len(out) == mostOthers {
				return filepath.SkipAll
			}
		}
		return nil
	})
	return out, err
}

// print writes what the verdict is about, a line each.
func (s Subject) print(b io.Writer) {
	for _, f := range s.Files {
		fmt.Fprintf(b, "read: %s  sha256 %s\n", printable.Text(f.Path), f.SHA256)
	}
	for _, t := range s.Tensors[:min(len(s.Tensors), mostTensors)] {
		fmt.Fprintf(b, "tensor: %s %v: %s\n", printable.Text(t.Name), t.Shape, t.Role)
	}
	if more := len(s.Tensors) - mostTensors; more > 0 {
		fmt.Fprintf(b, "tensor: and %d more, in report.json\n", more)
	}
	if len(s.Others) > 0 {
		var names []string
		for _, name := range s.Others {
			names = append(names, printable.Text(name))
		}
		fmt.Fprintf(b, "NOT LOOKED AT: other files in the same folder that may hold weights: %s\n", strings.Join(names, ", "))
	}
}

// mostTensors is how many tensors the terminal shows.
const mostTensors = 12

// Verified is what [Verify] found.
type Verified struct {
	File   ReadFile
	As     string // what the file is to the report; empty where it is nothing to it
	Report *Report
}

// mostReport bounds a report that is read.
const mostReport = 64 << 20

// ReadReport reads the report of an audit that Inspect wrote.
func ReadReport(path string) (*Report, error) {
	raw, err := files.Read(path, mostReport)
	if err != nil {
		return nil, fmt.Errorf("report: %w", err)
	}
	f := &Report{}
	if err := json.Unmarshal(raw, f); err != nil {
		return nil, fmt.Errorf("report %s: no report of an audit: %w", path, err)
	}
	if f.Decision == "" {
		return nil, fmt.Errorf("report %s: no report of an audit: it has no decision", path)
	}
	return f, nil
}

// Verify says whether a file is the one that a report is about: the audited model, or a file that
// was read for it.
func Verify(path, report string) (*Verified, error) {
	f, err := ReadReport(report)
	if err != nil {
		return nil, err
	}
	if f.Subject.Audited.SHA256 == "" {
		return nil, fmt.Errorf("report %s: it does not say which file was audited: inspect the model again", report)
	}
	sum, err := experiments.HashFile(path)
	if err != nil {
		return nil, err
	}
	v := &Verified{File: ReadFile{path, sum}, Report: f}
	if sum == f.Subject.Audited.SHA256 {
		v.As = "the audited model"
		return v, nil
	}
	for _, r := range f.Subject.Files {
		if r.SHA256 == sum {
			v.As = fmt.Sprintf("a file that was read for it (%s)", r.Path)
		}
	}
	return v, nil
}

package cmd

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"image/png"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"clipinspector/experiments"
	"clipinspector/experiments/audit"
	"clipinspector/internal/files"
	"clipinspector/results/stats"
	"clipinspector/results/store"
	"clipinspector/results/web"
)

// library is what the viewer shows: the suites and audits below some folders. What it read it keeps
// for as long as the files are the same.
type library struct {
	roots []string
	say   io.Writer

	mu     sync.Mutex
	read   map[string]*reading     // by folder
	drawer map[string]*illustrator // by folder and suite
}

func newLibrary(say io.Writer, roots []string) *library {
	return &library{roots: roots, say: say, read: map[string]*reading{}, drawer: map[string]*illustrator{}}
}

// mostRuns bounds how many folders are looked into.
const mostRuns = 1000

// Runs implements web.Source.
func (l *library) Runs() []web.Run {
	out := l.list()
	for i := range out {
		if out[i].Audit {
			continue
		}
		r, err := l.reading(out[i].Name)
		if err != nil {
			out[i].Err = err
			continue
		}
		for _, s := range r.suites {
			out[i].Suites = append(out[i].Suites, s.Rows.Suite.Name)
		}
	}
	return out
}

// list finds runs and audits: the folders named, those in them, and the shards of each. It reads
// none.
func (l *library) list() (out []web.Run) {
	var folders []string
	for _, root := range l.roots {
		root = filepath.Clean(root)
		folders = append(folders, root)
		for _, pattern := range []string{"*", filepath.Join("shards", "*"), filepath.Join("*", "shards", "*")} {
			found, err := filepath.Glob(filepath.Join(escapeGlob(root), pattern))
			if err != nil {
				continue // of a folder whose name is no pattern
			}
			folders = append(folders, found...)
		}
	}
	seen := map[string]bool{}
	for _, folder := range folders {
		if seen[folder] || len(out) == mostRuns {
			continue
		}
		seen[folder] = true
		switch {
		case isFile(filepath.Join(folder, experiments.StoreFile)):
			out = append(out, web.Run{Name: folder})
		case isFile(filepath.Join(folder, audit.ReportFile)):
			out = append(out, web.Run{Name: folder, Audit: true})
		}
	}
	return out
}

// escapeGlob is a path as a pattern that means it alone.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

// find makes sure that a run is among those listed: an address names one of those and no path.
func (l *library) find(run string, audited bool) error {
	if slices.ContainsFunc(l.list(), func(r web.Run) bool { return r.Name == run && r.Audit == audited }) {
		return nil
	}
	return fmt.Errorf("there is no run %q here", run)
}

// Suite implements web.Source.
func (l *library) Suite(run, suite string) (*web.Suite, error) {
	if err := l.find(run, false); err != nil {
		return nil, err
	}
	r, err := l.reading(run)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, s := range r.suites {
		if name := s.Rows.Suite.Name; name == suite || suite == "" && len(r.suites) == 1 {
			return s, nil
		}
		names = append(names, s.Rows.Suite.Name)
	}
	return nil, fmt.Errorf("%s has no suite %q; there are %s", run, suite, strings.Join(names, ", "))
}

// reading is what a store held at a moment.
type reading struct {
	state  string // of its files
	at     time.Time
	took   time.Duration
	suites []*web.Suite
	err    error
}

// until is for how long a store that nobody writes to is as it was read: leases end by themselves.
func (r *reading) until() time.Duration {
	if slices.ContainsFunc(r.suites, func(s *web.Suite) bool { return len(s.Leases) > 0 }) {
		return 5 * time.Second
	}
	return math.MaxInt64
}

// reading reads the store of a folder, or gives what was read before: where its files are the same,
// or where it was read a moment ago that is short beside the time that reading takes.
func (l *library) reading(folder string) (*reading, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	state := stateOf(filepath.Join(folder, experiments.StoreFile))
	if r := l.read[folder]; r != nil && (r.state == state && time.Since(r.at) < r.until() || time.Since(r.at) < max(time.Second, 5*r.took)) {
		return r, r.err
	}
	begun := time.Now()
	r := &reading{state: state, at: begun}
	r.suites, r.err = l.suites(folder)
	r.took = time.Since(begun)
	l.read[folder] = r
	return r, r.err
}

// stateOf tells whether a store was written to.
func stateOf(path string) string {
	var b strings.Builder
	for _, end := range []string{"", "-wal"} {
		if info, err := os.Stat(path + end); err == nil {
			fmt.Fprintln(&b, info.Size(), info.ModTime().UnixNano())
		}
	}
	return b.String()
}

// mostStore bounds the store that is read, in bytes: a grid of 5,000 models has 50 MB.
const mostStore = 2 << 30

// suites reads all suites of a folder.
func (l *library) suites(folder string) (out []*web.Suite, err error) {
	if info, err := os.Stat(filepath.Join(folder, experiments.StoreFile)); err == nil && info.Size() > mostStore {
		return nil, fmt.Errorf("%s has %d bytes, more than the viewer reads (%d)", filepath.Join(folder, experiments.StoreFile), info.Size(), mostStore)
	}
	s, suites, err := openSuites(folder, "")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	for _, u := range suites {
		w, err := readSuite(s, folder, u)
		if err != nil {
			return nil, err
		}
		id := folder + "\x00" + u.Name
		if l.drawer[id] == nil {
			l.drawer[id] = newIllustrator(l.say, folder, u)
		}
		w.Illustrate = l.drawer[id].fill
		out = append(out, w)
	}
	return out, nil
}

// readSuite reads a suite of an open store. Its pictures are left to the caller.
func readSuite(s *store.Store, folder string, u store.Suite) (*web.Suite, error) {
	w := &web.Suite{Run: folder}
	var err error
	if w.Progress, err = s.Progress(u.Name); err != nil {
		return nil, err
	}
	if w.Leases, err = s.Leases(u.Name); err != nil {
		return nil, err
	}
	if w.Rows, err = stats.Read(s, u.Name); err != nil {
		return nil, err
	}
	w.Command = func(m store.ModelRow) string { return alone(u, m) }
	sum := sha256.New()
	fmt.Fprintln(sum, u.Created.UnixNano(), w.Progress)
	for _, l := range w.Leases {
		fmt.Fprintln(sum, l.Kind, l.Key, l.Worker)
	}
	w.Version = hex.EncodeToString(sum.Sum(nil)[:8])
	return w, nil
}

// mostPicture bounds the side of a picture that an audit's folder holds, in pixels.
const mostPicture = 4096

// Audit implements web.Source.
func (l *library) Audit(run string) (*web.Audit, error) {
	if err := l.find(run, true); err != nil {
		return nil, err
	}
	return readAudit(run)
}

// readAudit reads the report of an audit and what lies beside it.
func readAudit(run string) (*web.Audit, error) {
	path := filepath.Join(run, audit.ReportFile)
	f, err := audit.ReadReport(path)
	if err != nil {
		return nil, err
	}
	a := &web.Audit{Run: run, Decision: string(f.Decision), Why: f.Why, Index: float64(f.Index), K: f.K, Suspect: f.Suspect, SourceClass: f.SourceClass, Twins: f.Twins,
		Notes: f.Notes, Encoders: f.Delivered.String(), Checkpoint: f.Checkpoint, CLIP: f.CLIP, Learner: f.Learner, Pool: f.Pool, PoolImages: f.PoolImages,
		Settings: f.Detector, Seed: f.Seed, Engine: f.Engine, Passes: f.Passes, Seconds: f.Seconds,
		Audited: web.AuditFile(f.Subject.Audited), Others: f.Subject.Others}
	a.Detector = fmt.Sprint(f.Detector["name"])
	classes := f.Classes
	if f.Encoder != nil {
		classes = []audit.ClassReport{*f.Encoder}
	}
	for _, c := range classes {
		a.Classes = append(a.Classes, web.AuditClass{Name: c.Class, Index: float64(c.Index), Score: float64(c.Score), Loss: float64(c.Loss),
			ASR: float64(c.ASR), Norm: float64(c.Norm)})
	}
	if r := f.References; r != nil {
		a.References = &web.AuditReferences{Count: r.Count, Source: r.Source, Accuracy: r.Accuracy, P: r.P}
		for _, p := range r.Others {
			a.References.Others = append(a.References.Others, float64(p))
		}
	}
	for _, x := range f.Explanations {
		y := web.Explanation{Class: x.Class, Says: x.Says, Unit: x.Unit, Picture: readPicture(run, x.Picture), Result: store.ExplanationResult{Said: x.Kind,
			Strongest: x.Strongest, Size: float64(x.Size), Anywhere: x.Anywhere, ASR: float64(x.ASR), ZeroShot: float64(x.ZeroShot), Others: float64(x.Others),
			Untouched: float64(x.Untouched), PSNR: float64(x.PSNR), SSIM: float64(x.SSIM)}}
		for _, z := range x.Families {
			y.Result.Families = append(y.Result.Families, store.FamilyEvidence{Kind: z.Kind, Lift: float64(z.Lift), Gain: float64(z.Gain), ASR: float64(z.ASR)})
		}
		a.Explanations = append(a.Explanations, y)
	}
	for _, x := range f.Subject.Files {
		a.Files = append(a.Files, web.AuditFile(x))
	}
	if info, err := os.Stat(path); err == nil {
		a.Written = info.ModTime()
	}
	a.Trigger = readPicture(run, "trigger.png")
	return a, nil
}

// readPicture reads a PNG of an audit's own folder; nil where there is none of a size to be shown.
func readPicture(run, name string) []byte {
	if name == "" || name != filepath.Base(name) {
		return nil // a report of somebody's may name any file
	}
	raw, err := files.Read(filepath.Join(run, name), 16<<20)
	if err != nil {
		return nil
	}
	if c, err := png.DecodeConfig(bytes.NewReader(raw)); err != nil || c.Width > mostPicture || c.Height > mostPicture {
		return nil
	}
	return raw
}

package plugin

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"clipinspector/attacks"
	"clipinspector/inspector"
	"clipinspector/internal/files"
	"clipinspector/settings"
)

// Prefix is how the names of plugins begin.
const Prefix = "python:"

// largest is the largest plugin file, in bytes.
const largest = 4 << 20

// file is a plugin file with its process.
type file struct {
	path   string // where it was found
	name   string // without folders
	source []byte
	sum    string // SHA-256 of source, in hexadecimal

	mu      sync.Mutex // one request at a time
	folder  string     // for this process alone
	running *process
	given   int // files that were given to it
}

// opened are the files that this program has opened, by their names without folders.
var opened struct {
	sync.Mutex
	files map[string]*file
}

// Is tells whether a name is that of a plugin.
func Is(name string) bool { return strings.HasPrefix(name, Prefix) }

// split takes a name apart: python:FILE:NAME.
func split(name string) (path, thing string, err error) {
	rest := strings.TrimPrefix(name, Prefix)
	at := strings.LastIndex(rest, ":")
	if at <= 0 || at == len(rest)-1 || !strings.HasSuffix(rest[:at], ".py") {
		return "", "", fmt.Errorf("%.80q names no plugin: want python:FILE.py:NAME, such as python:my_attack.py:Checker", name)
	}
	return rest[:at], rest[at+1:], nil
}

// open reads a plugin file, once. Two files of one name would be one in the results.
func open(path string) (*file, error) {
	source, err := files.Read(path, largest)
	if err != nil {
		return nil, fmt.Errorf("reading a plugin: %w", err)
	}
	sum := sha256.Sum256(source)
	f := &file{path: path, name: filepath.Base(path), source: source, sum: hex.EncodeToString(sum[:])}
	opened.Lock()
	defer opened.Unlock()
	switch known := opened.files[f.name]; {
	case known == nil:
	case known.sum == f.sum:
		return known, nil
	default:
		return nil, fmt.Errorf("plugin %s: %s was opened before with other content: results go by the file's name, so give one of them another", path, known.path)
	}
	if opened.files == nil {
		opened.files = map[string]*file{}
	}
	opened.files[f.name] = f
	return f, nil
}

// Close ends the processes of all plugins and takes away what they left.
func Close() {
	opened.Lock()
	defer opened.Unlock()
	for _, f := range opened.files {
		f.mu.Lock()
		f.kill()
		if f.folder != "" {
			_ = os.RemoveAll(f.folder) // a temporary folder
			f.folder = ""
		}
		f.mu.Unlock()
	}
}

// declaration is what a plugin says of itself.
type declaration struct {
	Doc    string      `json:"doc"`
	Draws  string      `json:"draws"`
	Params []parameter `json:"params"`
}

type parameter struct {
	Name    string          `json:"name"`
	Type    string          `json:"type"`
	Default json.RawMessage `json:"default"`
	Doc     string          `json:"doc"`
	Unit    string          `json:"unit"`
	Min     float64         `json:"min"`
	Max     float64         `json:"max"`
	Choices []string        `json:"choices"`
}

// as decodes a default of one type.
func as[T any](raw json.RawMessage) (any, error) {
	var v T
	err := json.Unmarshal(raw, &v)
	return v, err
}

// declare asks a file what it says of an attack or a detector, and checks it.
func (f *file) declare(kind, thing string) (d declaration, params []settings.Param, err error) {
	if err := f.request(context.Background(), map[string]any{"do": "declare", "kind": kind, "name": thing}, nil, nobody, &d); err != nil {
		return d, nil, err
	}
	if len(d.Doc) < 10 {
		return d, nil, fmt.Errorf("%s has no docstring that says in its first line what it does", thing)
	}
	for _, p := range d.Params {
		read := map[string]func(json.RawMessage) (any, error){"float": as[float64], "int": as[int], "bool": as[bool], "str": as[string]}[p.Type]
		if read == nil {
			return d, nil, fmt.Errorf("setting %.40q: the default is a %.40s, want int, float, bool or str", p.Name, p.Type)
		}
		v, err := read(p.Default)
		if err != nil {
			return d, nil, fmt.Errorf("setting %.40q: the default %.40s: %w", p.Name, p.Default, err)
		}
		params = append(params, settings.Param{Name: p.Name, Unit: p.Unit, Doc: p.Doc, Default: v, Min: p.Min, Max: p.Max, Choices: p.Choices})
	}
	reserved := []settings.Param{{Name: "name", Doc: "what the suite calls it", Default: ""}, {Name: "content", Doc: "the plugin's own", Default: ""}}
	return d, params, settings.CheckDeclaration(append(reserved, params...))
}

// nobody answers nothing.
func nobody(_ context.Context, what string, _ []byte) (any, error) {
	return nil, fmt.Errorf("nothing can be asked for now, such as %.40q", what)
}

// registered guards the registries against two parsers at once.
var registered sync.Mutex

// Attack makes the attack that a suite names known, with the file's place found by locate, and
// returns it.
func Attack(name string, locate func(path string) string) (*attacks.Attack, error) {
	return known("attack", name, locate, attacks.Find, (*file).attack, attacks.Register)
}

// Detector is Attack for a detector.
func Detector(name string, locate func(path string) string) (*inspector.Detector, error) {
	return known("detector", name, locate, inspector.Find, (*file).detector, inspector.Register)
}

// known finds what a plugin's name stands for among those that are registered, or makes it and
// registers it.
func known[T any](kind, name string, locate func(path string) string, registry func(string) (T, error), make func(f *file, name, thing string) (T, error), register func(T)) (x T, err error) {
	registered.Lock()
	defer registered.Unlock()
	f, thing, err := find(name, locate)
	if err != nil {
		return x, err
	}
	name = Prefix + f.name + ":" + thing
	if x, err := registry(name); err == nil {
		return x, nil
	}
	if x, err = make(f, name, thing); err != nil {
		return x, fmt.Errorf("%s %s: %w", kind, name, err)
	}
	register(x)
	return x, nil
}

func find(name string, locate func(path string) string) (*file, string, error) {
	path, thing, err := split(name)
	if err != nil {
		return nil, "", err
	}
	f, err := open(locate(path))
	return f, thing, err
}

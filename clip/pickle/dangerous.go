package pickle

import (
	"fmt"
	"slices"
	"strings"
)

// dangerous are the modules and functions by which a pickle takes over the machine that loads it. What no list can name is as
// harmless here as these are, since nothing is called; the refusal is a warning to whoever would load the file elsewhere.
var dangerous = map[string][]string{
	"os": nil, "posix": nil, "nt": nil, "subprocess": nil, "commands": nil, "popen2": nil, "pty": nil, "shutil": nil, "socket": nil,
	"sys": nil, "runpy": nil, "importlib": nil, "ctypes": nil, "webbrowser": nil, "pickle": nil, "_pickle": nil,
	"marshal": nil, "pip": nil, "bdb": nil, "pdb": nil, "timeit": nil, "asyncio": nil, "multiprocessing": nil,
	"code":        {"interact", "InteractiveConsole", "InteractiveInterpreter"},
	"builtins":    builtinFunctions,
	"__builtin__": builtinFunctions,
}

var builtinFunctions = []string{"eval", "exec", "execfile", "compile", "open", "file", "input", "__import__", "apply", "breakpoint"}

// inner are modules by which an attack reaches the same functions through another module that imports them.
var inner = []string{"os", "posix", "nt", "subprocess", "sys", "builtins", "__builtins__", "__import__"}

func (g Global) check() error {
	parts := strings.Split(g.Module+"."+g.Name, ".")
	functions, known := dangerous[parts[0]]
	if known && (functions == nil || slices.Contains(functions, parts[len(parts)-1])) ||
		slices.ContainsFunc(parts[1:], func(p string) bool { return slices.Contains(inner, p) }) {
		return fmt.Errorf("names %.80q, which runs code on a machine that loads the file: an attack; nothing was run here", g)
	}
	return nil
}

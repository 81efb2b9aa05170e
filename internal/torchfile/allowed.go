package torchfile

import (
	"errors"
	"fmt"
	"math"
	"regexp"
	"slices"
	"strings"

	"clipinspector/internal/pickle"
	"clipinspector/internal/safetensors"
)

// What a checkpoint may name. A class or function that is called when a file is loaded can do
// anything to its tensors, whatever its name is. So the list is of those that trainers' files need
// and that cannot touch a tensor, each with the arguments that picklers give it; the rest is
// refused. Nothing of it is called here.
//
// To add one: read its code. It must not change what it is given, and its __setstate__, __setitem__
// and append no more than itself.

// class says how a class or function may be used; without any of it, it may be named.
type class struct {
	call  func(args pickle.Tuple) bool // may be called with these; nil: never
	fresh bool                         // its __new__ may be called without arguments
	state func(v any) bool             // may be given this state
	keys  bool                         // may be given keys
	items bool                         // may be given items
	runs  bool                         // has code of its own that runs when it is given a state or keys
}

func none(args pickle.Tuple) bool { return len(args) == 0 }

func isDict(v any) bool {
	_, ok := v.(*pickle.Dict)
	return ok
}

func is[T any](v any) bool {
	_, ok := v.(T)
	return ok
}

// all tells whether all are of a kind.
func all(items []any, kind func(any) bool) bool {
	return !slices.ContainsFunc(items, func(x any) bool { return !kind(x) })
}

// instance tells whether a value is an object of a class by its full name.
func instance(v any, name string) bool {
	o, ok := v.(*pickle.Object)
	return ok && o.Class.(pickle.Global).String() == name
}

// isOptimizer tells whether a value is the state of an optimiser, whose code looks into it.
func isOptimizer(v any) bool {
	d, ok := v.(*pickle.Dict)
	if !ok {
		return false
	}
	defaults, _ := d.Get("defaults")
	state, _ := d.Get("state")
	groups, _ := d.Get("param_groups")
	list, ok := groups.(*pickle.List)
	inner, ok2 := pickle.AsDict(state)
	if !ok || !ok2 || !isDict(defaults) {
		return false
	}
	for _, k := range d.Keys {
		if !is[string](k) {
			return false
		}
	}
	for _, x := range inner.Values {
		if _, ok := pickle.AsDict(x); !ok {
			return false
		}
	}
	return all(list.Items, func(x any) bool {
		group, ok := x.(*pickle.Dict)
		if !ok {
			return false
		}
		params, _ := group.Get("params")
		of, ok := params.(*pickle.List)
		return ok && all(of.Items, is[*Tensor])
	})
}

// numberTypes are the dtypes of NumPy that are numbers, with their bytes. One of objects would hand
// through a tensor, one of strings a key that is equal to another one.
var numberTypes = map[string]int{"b1": 1, "i1": 1, "u1": 1, "i2": 2, "u2": 2, "f2": 2, "i4": 4, "u4": 4, "f4": 4, "i8": 8, "u8": 8, "f8": 8, "c8": 8, "c16": 16}

// isDType tells whether a value is a dtype of numbers, and the bytes of one.
func isDType(v any) (width int, ok bool) {
	if !instance(v, "numpy.dtype") {
		return 0, false
	}
	name, _ := first[string](v.(*pickle.Object).Args)
	width, ok = numberTypes[name]
	return width, ok
}

// isDTypeState tells whether a value is what NumPy pickles of a dtype of numbers: version 3, the
// order of its bytes, no fields.
func isDTypeState(v any) bool {
	t, ok := v.(pickle.Tuple)
	return ok && len(t) == 8 && t[0] == int64(3) && (t[1] == "<" || t[1] == "|") && t[2] == nil && t[3] == nil && t[4] == nil &&
		t[5] == int64(-1) && t[6] == int64(-1) && t[7] == int64(0)
}

// isArray tells whether bytes are those of an array.
func isArray(dtype, shape, raw any) bool {
	size, ok := isDType(dtype)
	dims, err := naturals("shape", shape)
	b, ok2 := raw.(pickle.Bytes)
	if !ok || err != nil || !ok2 {
		return false
	}
	if slices.Contains(dims, 0) {
		return len(b) == 0
	}
	for _, d := range dims {
		if d > uint64(len(b)) {
			return false
		}
		if size *= int(d); size > len(b) {
			return false
		}
	}
	return size == len(b)
}

// ints tells whether all arguments are integers of a range.
func ints(args pickle.Tuple, low, high int64) bool {
	return all(args, func(x any) bool {
		n, ok := x.(int64)
		return ok && low <= n && n <= high
	})
}

// isLatin1 tells whether a value is a string of characters below 256.
func isLatin1(v any) bool {
	s, ok := v.(string)
	return ok && !strings.ContainsFunc(s, func(r rune) bool { return r > 0xff })
}

var allowed = func() map[string]class {
	object := class{fresh: true, state: isDict}                              // argparse.Namespace and its like
	mapping := class{fresh: true, state: isDict, keys: true, runs: true}     // a dict with code of its own
	trained := class{fresh: true, state: isDict, runs: true}                 // a scheduler
	noted := class{}                                                         // only named
	strings := func(args pickle.Tuple) bool { return all(args, is[string]) } // a path's parts
	list := func(args pickle.Tuple) bool { return len(args) == 1 && is[*pickle.List](args[0]) }
	set := func(args pickle.Tuple) bool {
		return list(args) && all(args[0].(*pickle.List).Items, pickle.Hashable)
	}
	packed := func(n int) func(args pickle.Tuple) bool { // a date's bytes
		return func(args pickle.Tuple) bool {
			b, ok := first[pickle.Bytes](args)
			return ok && len(args) == 1 && len(b) == n
		}
	}
	m := map[string]class{
		"collections.OrderedDict": {call: none, keys: true, state: func(v any) bool { // other names would hide its methods
			d, ok := v.(*pickle.Dict)
			if !ok || len(d.Keys) != 1 || d.Keys[0] != "_metadata" {
				return false
			}
			_, ok = pickle.AsDict(d.Values[0])
			return ok
		}},
		"collections.defaultdict": {call: func(args pickle.Tuple) bool {
			return len(args) == 0 || len(args) == 1 && (args[0] == nil || is[pickle.Global](args[0]) && namedFactory(args[0].(pickle.Global)))
		}, keys: true},
		"collections.Counter": {call: func(args pickle.Tuple) bool { return len(args) == 0 || len(args) == 1 && isDict(args[0]) }},
		"collections.deque": {call: func(args pickle.Tuple) bool {
			return len(args) == 0 || len(args) == 2 && is[pickle.Tuple](args[0]) && len(args[0].(pickle.Tuple)) == 0 && (args[1] == nil || ints(args[1:], 0, math.MaxInt32))
		}, items: true},
		"builtins.complex": {call: func(args pickle.Tuple) bool { return len(args) == 2 && all(args, is[float64]) }},
		"builtins.bytearray": {call: func(args pickle.Tuple) bool {
			return len(args) == 1 && is[pickle.Bytes](args[0]) || len(args) == 2 && isLatin1(args[0]) && args[1] == "latin-1"
		}},
		"builtins.set": {call: set}, "builtins.frozenset": {call: set},
		"_codecs.encode": {call: func(args pickle.Tuple) bool { return len(args) == 2 && isLatin1(args[0]) && args[1] == "latin1" }},
		"numpy.dtype": {call: func(args pickle.Tuple) bool {
			name, ok := first[string](args)
			return ok && numberTypes[name] > 0 && len(args) == 3 && (args[1] == false || args[1] == int64(0)) && (args[2] == true || args[2] == int64(1))
		}, state: isDTypeState},
		"numpy.ndarray":                noted,
		"argparse.Namespace":           object,
		"types.SimpleNamespace":        {call: none, state: isDict},
		"yacs.config.CfgNode":          mapping,
		"easydict.EasyDict":            mapping,
		"fvcore.common.config.CfgNode": mapping,
		"typing.Any":                   noted,
		"datetime.datetime":            {call: packed(10)},
		"datetime.date":                {call: packed(4)},
		"datetime.timedelta":           {call: func(args pickle.Tuple) bool { return len(args) == 3 && ints(args, -1e6, 1e6) }},
		"torch.device": {call: func(args pickle.Tuple) bool {
			s, ok := first[string](args)
			return ok && (s == "cpu" || s == "cuda" || s == "mps") && len(args) <= 2 && ints(args[1:], 0, 127)
		}},
		"torch.Size": {call: func(args pickle.Tuple) bool {
			return len(args) == 1 && is[pickle.Tuple](args[0]) && ints(args[0].(pickle.Tuple), 0, math.MaxInt64)
		}},
	}
	for _, module := range []string{"numpy.core.multiarray", "numpy._core.multiarray"} {
		m[module+".scalar"] = class{call: func(args pickle.Tuple) bool {
			return len(args) == 2 && isArray(args[0], pickle.Tuple{}, args[1])
		}}
		m[module+"._reconstruct"] = class{call: func(args pickle.Tuple) bool { // an empty array, which gets a state
			if len(args) != 3 || args[0] != any(pickle.Global{Module: "numpy", Name: "ndarray"}) {
				return false
			}
			shape, ok := args[1].(pickle.Tuple)
			kind, ok2 := args[2].(pickle.Bytes)
			return ok && len(shape) == 1 && shape[0] == int64(0) && ok2 && string(kind) == "b"
		}, state: func(v any) bool {
			t, ok := v.(pickle.Tuple)
			return ok && len(t) == 5 && t[0] == int64(1) && is[bool](t[3]) && isArray(t[2], t[1], t[4])
		}}
	}
	for _, module := range []string{"numpy.core.numeric", "numpy._core.numeric"} {
		m[module+"._frombuffer"] = class{call: func(args pickle.Tuple) bool {
			return len(args) == 4 && isArray(args[1], args[2], args[0]) && (args[3] == "C" || args[3] == "F")
		}}
	}
	for _, name := range []string{"PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"} {
		m["pathlib."+name], m["pathlib._local."+name] = class{call: strings}, class{call: strings}
	}
	for _, name := range []string{"float32", "float16", "bfloat16", "float64", "int64", "int32", "int16", "int8", "uint8", "bool", "complex64"} {
		m["torch."+name] = noted
	}
	for name := range storageTypes {
		m["torch."+name], m["torch.cuda."+name] = noted, noted
	}
	for _, name := range []string{"dict", "list", "tuple", "int", "float", "str", "bool", "bytes", "object"} {
		m["builtins."+name] = noted
	}
	for module, name := range map[string]string{"sgd": "SGD", "adam": "Adam", "adamw": "AdamW", "rmsprop": "RMSprop", "adagrad": "Adagrad",
		"adadelta": "Adadelta", "adamax": "Adamax", "nadam": "NAdam", "radam": "RAdam", "asgd": "ASGD", "lbfgs": "LBFGS", "rprop": "Rprop"} {
		m["torch.optim."+module+"."+name] = class{fresh: true, state: isOptimizer, runs: true}
	}
	for _, name := range []string{"CosineAnnealingLR", "CosineAnnealingWarmRestarts", "StepLR", "MultiStepLR", "LambdaLR", "ExponentialLR",
		"ReduceLROnPlateau", "OneCycleLR", "LinearLR", "ConstantLR", "PolynomialLR", "SequentialLR", "ChainedScheduler"} {
		m["torch.optim.lr_scheduler."+name] = trained
	}
	m["dassl.optim.radam.RAdam"] = class{fresh: true, state: isOptimizer, runs: true}
	for _, name := range []string{"optim.lr_scheduler.ConstantWarmupScheduler", "optim.lr_scheduler.LinearWarmupScheduler"} {
		m["dassl."+name] = trained
	}
	for _, name := range []string{"dictconfig.DictConfig", "listconfig.ListConfig", "base.ContainerMetadata", "base.Metadata", "nodes.AnyNode",
		"nodes.StringNode", "nodes.IntegerNode", "nodes.FloatNode", "nodes.BooleanNode"} {
		m["omegaconf."+name] = trained
	}
	for _, name := range []string{"pytorch_lightning.utilities.parsing.AttributeDict", "lightning_fabric.utilities.data.AttributeDict",
		"lightning.fabric.utilities.data.AttributeDict"} {
		m[name] = mapping
	}
	for _, name := range []string{"build_intlist", "build_doublelist", "build_boollist", "build_tensorlist"} {
		m["torch.jit._pickle."+name] = class{call: list}
	}
	m["torch.jit._pickle.restore_type_tag"] = class{call: func(args pickle.Tuple) bool {
		return len(args) == 2 && (is[*pickle.List](args[0]) || isDict(args[0])) && is[string](args[1])
	}}
	for _, name := range []string{"_rebuild_tensor", "_rebuild_tensor_v2", "_rebuild_parameter"} { // see call
		m["torch._utils."+name] = noted
	}
	for name, c := range m { // as protocol 2 has it
		if short, ok := cutBuiltins(name); ok {
			m["__builtin__."+short] = c
		}
	}
	return m
}()

func cutBuiltins(name string) (string, bool) { return strings.CutPrefix(name, "builtins.") }

func namedFactory(g pickle.Global) bool {
	return (g.Module == "builtins" || g.Module == "__builtin__") && slices.Contains([]string{"dict", "list", "int", "float"}, g.Name)
}

// first returns the first argument as a type.
func first[T any](args pickle.Tuple) (x T, ok bool) {
	if len(args) == 0 {
		return x, false
	}
	x, ok = args[0].(T)
	return x, ok
}

var scriptModules = regexp.MustCompile(`^(__torch__.*|torch\.jit\._pickle\..*|collections\.OrderedDict|torch\.[A-Za-z0-9]*Storage|torch\._utils\._rebuild_tensor_v2|torch\.device)$`)

// lookup finds what a file may do with a class or function.
func (f *File) lookup(g pickle.Global) (class, bool) {
	if f.Format == "TorchScript" && !scriptModules.MatchString(g.String()) { // its loader knows no more
		return class{}, false
	}
	if c, ok := allowed[g.String()]; ok {
		return c, true
	}
	switch {
	case f.Format == "TorchScript" && strings.HasPrefix(g.Module, "__torch__"): // its state is its attributes: see checkCode
		return class{fresh: true, state: isDict}, true
	case strings.HasPrefix(g.Module, "pytorch_lightning.callbacks.") || strings.HasPrefix(g.Module, "lightning.pytorch.callbacks."):
		return class{}, true // old versions keep the callbacks' states by class
	}
	return class{}, false
}

// name notes what is outside of the list. Reading goes on, so that the refusal can name all of it.
func (f *File) name(g pickle.Global) {
	if _, ok := f.lookup(g); !ok && !slices.Contains(f.strangers, g.String()) {
		f.strangers = append(f.strangers, g.String())
	}
}

// namesStrangers is the refusal of a file that names what is outside of the list.
func (f *File) namesStrangers() error {
	if len(f.strangers) == 0 {
		return nil
	}
	const most = 5
	var list []string
	for _, g := range f.strangers[:min(most, len(f.strangers))] {
		list = append(list, fmt.Sprintf("%.80q", g))
	}
	if more := len(f.strangers) - most; more > 0 {
		list = append(list, fmt.Sprintf("and %d more", more))
	}
	names := strings.Join(list, ", ")
	if f.modules {
		return fmt.Errorf("holds modules that were pickled whole, not their state_dict(): the code of %s would run when loaded elsewhere; nothing was run here", names)
	}
	return fmt.Errorf("names what would run when loaded elsewhere: %s; nothing was run here", names)
}

// call gives what a call makes: a tensor, or an inert object.
func (f *File) call(o *pickle.Object, fresh bool) (any, error) {
	g, ok := o.Class.(pickle.Global)
	if !ok {
		return nil, fmt.Errorf("calls %s", pickle.TypeName(o.Class))
	}
	c, known := f.lookup(g)
	if !known {
		return o, nil // the whole file will be refused
	}
	odd := fmt.Errorf("calls %.80q in a way that torch.save does not write", g)
	if fresh {
		if !c.fresh || len(o.Args) > 0 {
			return nil, odd
		}
		return o, nil
	}
	switch g.String() {
	case "torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2":
		want := map[string]int{"_rebuild_tensor": 4, "_rebuild_tensor_v2": 6}[g.Name]
		if len(o.Args) != want { // a seventh would be metadata
			return nil, odd
		}
		t, err := newTensor(o.Args)
		if err == nil && want == 6 {
			err = checkGradient(t, o.Args[4], o.Args[5])
		}
		return t, err
	case "torch._utils._rebuild_parameter":
		t, ok := first[*Tensor](o.Args)
		if !ok || len(o.Args) != 3 {
			return nil, odd
		}
		return t, checkGradient(t, o.Args[1], o.Args[2])
	case "builtins.bytes", "__builtin__.bytes": // as protocol 2 has b""
		if len(o.Args) > 0 {
			return nil, odd
		}
		return pickle.Bytes{}, nil
	case "_codecs.encode":
		if !c.call(o.Args) {
			return nil, odd
		}
		var b pickle.Bytes
		for _, r := range o.Args[0].(string) {
			b = append(b, byte(r))
		}
		return b, nil
	}
	if c.call == nil || !c.call(o.Args) {
		return nil, odd
	}
	return o, nil
}

// checkGradient checks the last arguments of a tensor, whether it wants gradients and its hooks, of
// which there must be none.
func checkGradient(t *Tensor, wants, hooks any) error {
	w, ok := wants.(bool)
	if !ok {
		return fmt.Errorf("a tensor whose requires_grad is %s", pickle.TypeName(wants))
	}
	if d := t.DType; w && d != safetensors.F32 && d != safetensors.F16 && d != safetensors.BF16 && d != "F64" && d != "C64" {
		return fmt.Errorf("a tensor of %s that wants gradients", d)
	}
	d, ok := pickle.AsDict(hooks)
	if !ok || isDict(hooks) || !instance(hooks, "collections.OrderedDict") || len(d.Keys) > 0 {
		return errors.New("a tensor with hooks")
	}
	return nil
}

// fill tells whether an object may be given a state, keys or items.
func (f *File) fill(o *pickle.Object, with pickle.Filling, v any) error {
	g, _ := o.Class.(pickle.Global)
	c, known := f.lookup(g)
	if !known { // the whole file will be refused
		d, _ := v.(*pickle.Dict)
		f.modules = f.modules || d != nil && slices.Contains(d.Keys, any("_modules"))
		return nil
	}
	ok := with == pickle.Keys && c.keys || with == pickle.Items && c.items ||
		with == pickle.State && c.state != nil && c.state(v) && o.State == nil
	if !ok {
		return fmt.Errorf("gives %s to an object of %.80q, which torch.save does not write", with, g)
	}
	f.runs = f.runs || c.runs
	return nil
}

package torchfile

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"clipinspector/internal/pickle"
)

type hostileFile struct {
	raw  []byte
	want string
}

func hostile() map[string]hostileFile {
	one := func(n int64) pickle.Tuple { return pickle.Tuple{n} }
	file := func(x any) []byte {
		return zipped(zip.Store, "a/data.pkl", string(stateDict(x)), "a/data/0", strings.Repeat("x", 16))
	}
	numbers, legacy := read("numbers-zip.pt"), read("numbers-legacy.pt")
	patched := func(raw []byte, from, to string) []byte {
		if !bytes.Contains(raw, []byte(from)) {
			panic(from)
		}
		return bytes.ReplaceAll(slices.Clone(raw), []byte(from), []byte(to))
	}
	f32 := "FloatStorage"
	m := map[string]hostileFile{
		"os.system": {zipped(zip.Store, "a/data.pkl", "\x80\x02cos\nsystem\nX\x04\x00\x00\x00true\x85R."), `"os.system"`},
		"os.system in the optimiser of a true checkpoint": {
			patched(read("dassl-legacy.pt"), "ctorch.optim.sgd\nSGD\n", "cposix\nsystem\n"), `"posix.system"`},
		"a storage that is shorter than it says": {file(rebuild(f32, 5, int64(0), one(5), one(1))), "truncated"},
		"a storage of 2^62 numbers":              {file(rebuild(f32, 1<<62, int64(0), one(4), one(1))), "truncated"},
		"a tensor of 2^40 numbers by stride 0":   {file(rebuild(f32, 4, int64(0), one(1<<40), one(0))), "more numbers than the 4"},
		"a shape whose product overflows":        {file(rebuild(f32, 4, int64(0), pickle.Tuple{int64(1 << 32), int64(1 << 32), int64(2)}, pickle.Tuple{int64(1), int64(1), int64(1)})), "more numbers"},
		"an offset beyond the storage":           {file(rebuild(f32, 4, int64(3), one(2), one(1))), "leave the 4 numbers"},
		"a stride that overflows":                {file(rebuild(f32, 4, int64(0), one(3), one(math.MaxInt64))), "leave"},
		"a negative stride":                      {file(rebuild(f32, 4, int64(3), one(4), one(-1))), "no natural number"},
		"a shape of strings":                     {file(rebuild(f32, 4, int64(0), pickle.Tuple{"4"}, one(1))), "no natural number"},
		"a shape of 17 axes":                     {file(rebuild(f32, 4, int64(0), make(pickle.Tuple, 17), one(1))), "17 numbers"},
		"more strides than axes":                 {file(rebuild(f32, 4, int64(0), one(4), pickle.Tuple{int64(1), int64(1)})), "axes"},
		"an unknown type of numbers":             {file(rebuild("QInt8Storage", 4, int64(0), one(4), one(1))), "QInt8Storage"},
		"a tensor without a storage":             {file(&pickle.Object{Class: pickle.Global{Module: "torch._utils", Name: "_rebuild_tensor_v2"}, Args: pickle.Tuple{int64(1), int64(0), one(4), one(1), false, orderedDict()}}), "storage is an int"},
		"a tensor of doubles that are floats":    {file(rebuild("DoubleStorage", 4, int64(0), one(4), one(1))), "truncated"},
		"a storage that is not there":            {zipped(zip.Store, "a/data.pkl", string(stateDict(rebuild(f32, 4, int64(0), one(4), one(1))))), "no entry of that name"},
		"no data.pkl":                            {zippedAlone(zip.Store, "a/version", "3"), "no entry */data.pkl"},
		"two of them":                            {zipped(zip.Store, "a/data.pkl", "\x80\x02N.", "b/data.pkl", "\x80\x02N."), "into an archive"},
		"an entry that comes twice":              {zipped(zip.Store, "a/data.pkl", "\x80\x02N.", "a/data.pkl", "\x80\x02N."), "twice"},
		"a compressed pickle":                    {zipped(zip.Deflate, "a/data.pkl", "\x80\x02N."), "compressed"},
		"a big-endian file":                      {zipped(zip.Store, "a/data.pkl", "\x80\x02N.", "a/byteorder", "big"), "little-endian"},
		"a zip file cut in the middle":           {numbers[:len(numbers)/2], "no directory"},
		"a zip file without its first kilobyte":  {append([]byte("PK\x03\x04"), numbers[1024:]...), ""},
		"a legacy file cut in its storages":      {legacy[:len(legacy)-100], "truncated"},
		"a legacy file cut in its pickle":        {legacy[:700], "ends in the middle"},
		"a legacy file whose storage is huge":    {patched(legacy, "\x0c\x00\x00\x00\x00\x00\x00\x00", "\x0c\x00\x00\x00\x00\x00\x00\x40"), "truncated"},
		"another pickle":                         {[]byte("\x80\x02N."), "magic number"},
		"text":                                   {[]byte("hello, world"), "neither"},
		"nothing":                                {nil, "too short"},
		"a number for a tensor":                  {file(int64(7)), "no ctx"},
		"a number for a state dict":              {zipped(zip.Store, "a/data.pkl", "\x80\x02K\x07."), "an int, want a state dict"},
		"a state dict with numbers for names":    {zipped(zip.Store, "a/data.pkl", "\x80\x02}K\x01K\x02s."), "a key that is an int"},
		"a module that holds itself": {zipped(zip.Store, "a/data.pkl", "\x80\x02c__torch__\nM\n)\x81q\x00}X\x01\x00\x00\x00mh\x00sb.", "a/constants.pkl", "\x80\x02).", "a/code/__torch__.py", scriptCode),
			"modules nested deeper"},
		"a module that was pickled whole": {zipped(zip.Store, "a/data.pkl", "\x80\x02c__main__\nCustomCLIP\n)\x81}X\x08\x00\x00\x00_modules}sb."),
			`pickled whole, not their state_dict(): the code of "__main__.CustomCLIP"`},
		"modules that hold the next one twice, 60 deep": {zipped(zip.Store, "a/data.pkl", doubled(60), "a/constants.pkl", "\x80\x02).", "a/code/__torch__.py", scriptCode),
			"more than 131072 entries"},
		"a parameter of a parameter without end": {file(nested(6)), "in a way that torch.save does not write"},
	}
	for what, x := range odd() {
		m[what] = x
	}
	const each, tensors = 1 << 12, 1 << 10 // a thousand tensors of one storage
	var names, values []any
	for i := range tensors {
		names, values = append(names, strings.Repeat("x", i+1)), append(values, rebuild(f32, each, int64(0), one(each), one(1)))
	}
	var b bytes.Buffer
	if err := pickle.Encode(&b, &pickle.Dict{Keys: names, Values: values}); err != nil {
		panic(err)
	}
	m["a thousand tensors of one storage"] = hostileFile{zipped(zip.Store, "a/data.pkl", b.String(), "a/data/0", strings.Repeat("x", 4*each)),
		"more bytes than the file"}
	// A directory that claims 100 million entries, and one of 4 GB.
	end := bytes.LastIndex(numbers, []byte("PK\x05\x06"))
	big := slices.Clone(numbers[:end-20]) // without the locator of zip64
	big = append(big, "PK\x05\x06"...)
	big = binary.LittleEndian.AppendUint64(big, 0xffff<<32|0xffff<<48)
	big = append(binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(big, 0xfffffffe), 0), 0, 0)
	m["a directory of 4 GB"] = hostileFile{big, "directory of 4294967294 bytes"}
	return m
}

// odd are files that PyTorch reads, in another way than one might: each is refused.
func odd() map[string]hostileFile {
	// A tensor over storage KEY of so many numbers, in the memo at 9; ctx and x are names.
	tensor, text := pickledTensor, pickledText
	const f32 = "FloatStorage"
	x, y := tensor(f32, "0"), tensor(f32, "1")
	raw := func(program string, more ...string) []byte {
		return zipped(zip.Store, append([]string{"a/data.pkl", "\x80\x02" + program, "a/data/0", four, "a/data/1", four}, more...)...)
	}
	dict := func(pairs string) string { return "}(" + pairs + "u." }
	good := raw(dict(text("ctx") + x))
	script := func(code string) []byte {
		return raw("c__torch__\nM\n)\x81}("+text("ctx")+x+text("b")+y+"ub.", "a/constants.pkl", "\x80\x02).", "a/code/__torch__.py", code)
	}
	const method = "a way that torch.save does not write"
	m := map[string]hostileFile{
		"a name twice":                            {raw(dict(text("ctx") + x + text("ctx") + y)), "twice"},
		"names that differ in case":               {raw(dict(text("ctx") + x + text("CTX") + y)), "but for case"},
		"a name with and without a prefix":        {raw(dict(text("ctx") + x + text("module.ctx") + y)), "wrapper's prefix"},
		"a name with two prefixes":                {raw(dict(text("0.ctx") + x + text("_orig_mod.module.ctx") + y)), "wrapper's prefix"},
		"a state put on a tensor":                 {raw("}" + text("ctx") + x + "}" + text("data") + y + "sbs."), "state of"},
		"a parameter with state":                  {raw(dict(text("ctx") + "ctorch._utils\n_rebuild_parameter_with_state\n(" + x + "\x89ccollections\nOrderedDict\n)R}tR")), "_rebuild_parameter_with_state"},
		"one storage under two types":             {raw(dict(text("ctx") + x + text("x") + tensor("IntStorage", "0"))), "of two types"},
		"a method of a tensor":                    {raw(dict(text("ctx") + x + text("x") + "ctorch\nTensor.copy_\nh\x09" + y + "\x86R")), "Tensor.copy_"},
		"a method of a dict":                      {raw(dict(text("ctx") + "ccollections\nOrderedDict.update\n}}\x86R")), "OrderedDict.update"},
		"an OrderedDict that is made of pairs":    {raw("ccollections\nOrderedDict\n]" + text("ctx") + x + "\x86a\x85R."), method},
		"an OrderedDict whose methods are hidden": {raw("ccollections\nOrderedDict\n)R(" + text("ctx") + x + "u}" + text("items") + "K\x01sb."), "gives state"},
		"a tensor with hooks":                     {raw("ccollections\nOrderedDict\n)Rq\x01K\x00K\x00s0."), "unknown"},
		"a tensor whose shape is a list":          {raw(dict(text("ctx") + strings.Replace(x, "K\x04\x85K\x01\x85", "]K\x04aK\x01\x85", 1))), "want a tuple"},
		"a tensor with metadata":                  {raw(dict(text("ctx") + strings.Replace(x, ")RtR", ")R}"+text("neg")+"\x88stR", 1))), method},
		"a tensor with metadata that is None":     {raw(dict(text("ctx") + strings.Replace(x, ")RtR", ")RNtR", 1))), method},
		"a storage on no device":                  {raw(dict(text("ctx") + strings.Replace(x, "X\x03\x00\x00\x00cpu", text("meta"), 1))), "as torch.save writes them"},
		"a storage that is larger than it says":   {raw(dict(text("ctx")+x), "a/data/2", ""), ""},
		"an object of NumPy that is a tensor":     {raw(dict(text("ctx") + x + text("x") + "cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n(X\x02\x00\x00\x00O8\x89\x88tRh\x09\x86R")), method},
		"a number of NumPy without its bytes":     {raw(dict(text("ctx") + x + text("x") + "cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\n(" + text("f8") + "\x89\x88tRc_codecs\nencode\n" + text("1234") + text("latin1") + "\x86R\x86R")), method},
		"a dtype of NumPy with fields":            {raw(dict(text("ctx") + x + text("x") + "cnumpy\ndtype\n(" + text("f8") + "\x89\x88tR(K\x03" + text("<") + "N)}J\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb")), "gives state"},
		"a dict with an object for a key":         {raw(dict("ccollections\nOrderedDict\n)RN" + text("ctx") + x)), "a key of a dict"},
		"something behind the pickle":             {raw(dict(text("ctx")+x) + "N."), "follows the pickle"},
		"bytes in front":                          {append([]byte("PK\x03\x04 "), good...), "zip"},
		"bytes behind":                            {append(slices.Clone(good), 0), "no directory at the end"},
		"a second archive in front":               {append(slices.Clone(good), good...), ""},
		"entries that differ in case":             {raw(dict(text("ctx")+x), "a/DATA.pkl", "\x80\x02}."), "comes twice"},
		"an entry of another kind":                {raw(dict(text("ctx")+x), "a/other", "1"), "none that torch.save writes"},
		"an entry outside":                        {raw(dict(text("ctx")+x), "b/data/7", "1"), "none that torch.save writes"},
		"no version":                              {zippedAlone(zip.Store, "a/data.pkl", "\x80\x02}."), "*/version"},
		"a class with code":                       {raw(dict(text("ctx")+x), "a/constants.pkl", "\x80\x02).", "a/code/__torch__.py", "def __setstate__(self):"), "__setstate__"},
		"a module without code":                   {script(""), "no code of its class"},
		"a module with other code":                {script("class M(Module):\n  __parameters__=['ctx']\n  __buffers__ = []\n"), "torch.jit.save does not write"},
		"a class twice":                           {script(scriptCode + scriptCode), "comes twice"},
		"an optimiser that holds the state dict": {raw("}(" + text("state_dict") + "}q\x05(" + text("ctx") + x + "u" + text("o") +
			"ctorch.optim.adam\nAdam\n)\x81}" + "(" + text("defaults") + "h\x05" + text("state") + "}" + text("param_groups") + "]ubu."), "part of something else"},
	}
	delete(m, "a storage that is larger than it says")
	m["a storage that is larger than it says"] = hostileFile{raw(dict(text("ctx") + strings.Replace(x, "K\x04tQ", "K\x03tQ", 1))), "or of another type"}
	patch := func(what, want string, change func(b []byte)) {
		b := slices.Clone(good)
		change(b)
		m[what] = hostileFile{b, want}
	}
	local, central, end := 0, bytes.Index(good, []byte("PK\x01\x02")), bytes.LastIndex(good, []byte("PK\x05\x06"))
	patch("an encrypted entry", "encrypted", func(b []byte) { b[central+8] |= 1 })
	patch("an entry that is a folder", "attributes", func(b []byte) { b[central+38] |= 0x10 })
	patch("an entry of text", "attributes", func(b []byte) { b[central+36] |= 1 })
	patch("a header with another name", "contradicts", func(b []byte) { b[local+30] = 'b' })
	patch("a header with another flag", "contradicts", func(b []byte) { b[local+7] ^= 8 })
	patch("a wrong sum of the pickle", "CRC-32", func(b []byte) { b[bytes.Index(b, []byte("ctx"))] = 'd' })
	patch("a wrong sum of the numbers", "CRC-32", func(b []byte) { b[bytes.Index(b, []byte(four))+2] ^= 1 })
	patch("fewer entries than there are", "bytes more", func(b []byte) { b[end+8]--; b[end+10]-- })
	patch("a directory elsewhere", "directory", func(b []byte) { b[end+16]++ })
	patch("a comment", "comment", func(b []byte) { b[end+20]++ })
	tar := make([]byte, 1024)
	copy(tar, read("numbers-legacy.pt"))
	copy(tar[148:], "        ")
	sum := 0
	for _, v := range tar[:512] {
		sum += int(v)
	}
	copy(tar[148:], fmt.Sprintf("%06o\x00 ", sum))
	m["a tar archive that is a pickle"] = hostileFile{tar, "tar archive"}
	legacy := read("numbers-legacy.pt")
	m["a legacy file with bytes behind"] = hostileFile{append(slices.Clone(legacy), 0), "follow the last storage"}
	return m
}

// What is odd is refused in every run, in the same words: no order of a map decides.
func TestRefusalsRepeat(t *testing.T) {
	for what, x := range odd() {
		first := use("x.pt", x.raw)
		for range 100 {
			if err := use("x.pt", x.raw); err == nil || err.Error() != first.Error() {
				t.Fatalf("%s: %v, then %v", what, first, err)
			}
		}
	}
}

// Whatever a file names that is not on the list is named in the refusal, called or not.
func TestCallablesAreNamed(t *testing.T) {
	names := 0
	for module, list := range map[string]string{
		"os":                           "system popen execv execve execvp spawnl spawnlp spawnv spawnve posix_spawn fork forkpty kill remove unlink rename rmdir removedirs makedirs putenv startfile chmod open",
		"posix":                        "system execv execve fork remove open posix_spawn",
		"nt":                           "system spawnv",
		"subprocess":                   "Popen run call check_call check_output getoutput getstatusoutput",
		"builtins":                     "eval exec compile open __import__ getattr setattr delattr vars globals locals map filter type input breakpoint print memoryview super classmethod property iter next apply",
		"__builtin__":                  "eval execfile file getattr reload raw_input apply",
		"importlib":                    "import_module reload __import__",
		"shutil":                       "rmtree move copyfile copytree unpack_archive chown",
		"pty":                          "spawn fork",
		"ctypes":                       "CDLL PyDLL cast memmove string_at",
		"runpy":                        "run_module run_path _run_code",
		"webbrowser":                   "open get",
		"codecs":                       "open encode decode lookup",
		"_codecs":                      "decode lookup register",
		"operator":                     "attrgetter itemgetter methodcaller setitem iadd call",
		"functools":                    "partial reduce partialmethod singledispatch",
		"types":                        "FunctionType CodeType MethodType ModuleType DynamicClassAttribute",
		"pickle":                       "loads load Unpickler",
		"_pickle":                      "loads Unpickler",
		"marshal":                      "loads",
		"code":                         "interact InteractiveInterpreter",
		"timeit":                       "timeit main",
		"pdb":                          "run runcall",
		"profile":                      "run",
		"cProfile":                     "run",
		"bdb":                          "Bdb",
		"socket":                       "socket create_connection",
		"urllib.request":               "urlopen urlretrieve",
		"requests.api":                 "get post",
		"multiprocessing":              "Process Pool",
		"threading":                    "Thread Timer",
		"asyncio":                      "run create_subprocess_shell",
		"tempfile":                     "mktemp NamedTemporaryFile",
		"logging.config":               "dictConfig listen",
		"pip":                          "main",
		"torch":                        "load save compile jit nn.Module zeros_like add Tensor.copy_ Tensor.set_ ops.load_library",
		"torch.hub":                    "load load_state_dict_from_url download_url_to_file",
		"torch.jit":                    "load script trace",
		"torch.nn.parameter":           "Parameter",
		"torch._utils":                 "_rebuild_parameter_with_state _rebuild_sparse_tensor _rebuild_device_tensor_from_numpy",
		"torch.utils.cpp_extension":    "load load_inline",
		"torch.serialization":          "load add_safe_globals",
		"torch.storage":                "_load_from_bytes",
		"numpy":                        "load fromfile memmap save vectorize apply_along_axis",
		"numpy.testing._private.utils": "runstring",
		"numpy.f2py.diagnose":          "run_command",
		"collections":                  "UserDict ChainMap OrderedDict.update OrderedDict.__setitem__",
	} {
		for _, name := range strings.Fields(list) {
			full := module + "." + name
			for what, program := range map[string]string{
				"called": "c" + module + "\n" + name + "\n)R.", "named": "c" + module + "\n" + name + "\n.", "made": "c" + module + "\n" + name + "\n)\x81."} {
				err := use("x.pt", zipped(zip.Store, "a/data.pkl", "\x80\x02"+program))
				if err == nil || !strings.Contains(err.Error(), strconv.Quote(full)) || !strings.Contains(err.Error(), "would run when loaded elsewhere") {
					t.Errorf("%s, %s: %v, want an error that names it", full, what, err)
				}
			}
			names++
		}
	}
	t.Logf("%d names", names)
}

// What people take for weights and is none is named.
func TestNotWeights(t *testing.T) {
	for content, want := range map[string]string{
		"": "is empty", "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\n": "git lfs pull", "\n<!DOCTYPE html><html>": "web page",
		"<?xml version='1.0'?><Error>": "web page", "{\"error\":\"Invalid credentials\"}": "error message", "\x1f\x8b\x08\x00": "compressed"} {
		path := filepath.Join(t.TempDir(), "ViT-B-16.pt")
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
		for _, open := range []func() error{func() error { _, err := Head(path); return err }, func() error { _, err := Open(path); return err }} {
			if err := open(); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
				t.Errorf("%.20q: %v, want an error that says %q", content, err, want)
			}
		}
	}
}

// doubled is a module that holds a module twice, which holds one twice, and so on: 2^depth in all,
// from a few bytes each.
func doubled(depth int) string {
	s := "\x80\x02"
	for range depth {
		s += "c__torch__\nM\n)\x81q\x01}(X\x01\x00\x00\x00a"
	}
	s += "N"
	for range depth {
		s += "q\x02X\x01\x00\x00\x00bh\x02ub"
	}
	return s + "."
}

// nested is a parameter of a parameter of a parameter ...
func nested(depth int) any {
	v := any(int64(0))
	for range depth {
		v = &pickle.Object{Class: pickle.Global{Module: "torch._utils", Name: "_rebuild_parameter"}, Args: pickle.Tuple{v, false, orderedDict()}}
	}
	return v
}

// use does what a reader of a checkpoint does: open, find the tensors, read one of them.
func use(path string, raw []byte) error {
	f, err := open(path, bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		return err
	}
	root := f.Root
	if d, ok := pickle.AsDict(root); ok {
		if inner, ok := d.Get("state_dict"); ok {
			root = inner
		}
	}
	d, err := f.StateDict(root)
	if err != nil {
		return err
	}
	for _, x := range d {
		if _, err := x.Float32(); err != nil {
			return err
		}
	}
	if d["ctx"] == nil {
		return os.ErrNotExist
	}
	return nil
}

// Hostile files are refused in one line, within a second and 100 MB.
func TestHostileFiles(t *testing.T) {
	for what, x := range hostile() {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		err := use("delivered.pt", x.raw)
		took := time.Since(start)
		runtime.ReadMemStats(&after)
		if x.want == "no ctx" { // it is read, and holds no tensor
			x.want = os.ErrNotExist.Error()
		}
		if err == nil || !strings.Contains(err.Error(), x.want) || strings.Contains(err.Error(), "\n") || len(err.Error()) > 400 {
			t.Errorf("%s: %v, want an error that says %q", what, err, x.want)
		}
		// Garbage counts here as well; the bound on time leaves room for a busy machine.
		if asked := (after.TotalAlloc - before.TotalAlloc) >> 20; asked > 100 || took > 5*time.Second {
			t.Errorf("%s: asked for %d MB in all and took %v", what, asked, took)
		}
		t.Logf("%-48s %6d KB, %8v: %v", what, (after.TotalAlloc-before.TotalAlloc)>>10, took.Round(time.Microsecond), err)
	}
}

func TestOpenNamesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model.pth.tar-9")
	if err := os.WriteFile(path, []byte("something else"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{path, filepath.Dir(path), path + "0"} {
		if _, err := Open(p); err == nil || !strings.Contains(err.Error(), p) {
			t.Errorf("%s: %v", p, err)
		}
	}
}

const four = "\x00\x00\x80?\x00\x00\x00@\x00\x00@@\x00\x00\x80@" // 1, 2, 3, 4

// pickledTensor is the program that makes a tensor of four numbers, pickledText that of a short
// string.
func pickledTensor(class, key string) string {
	return "ctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\n" + class + "\nX\x01\x00\x00\x00" + key + "X\x03\x00\x00\x00cpuK\x04tQK\x00" +
		"K\x04\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtRq\x09"
}

func pickledText(s string) string { return "X" + string(rune(len(s))) + "\x00\x00\x00" + s }

// scriptCode has a module with one parameter.
const scriptCode = "class M(Module):\n  __parameters__ = [\"ctx\", ]\n  __buffers__ = []\n  ctx : Tensor\n  b : Tensor\n"

// A tensor of a TorchScript module that is neither parameter nor buffer is in no state dict of
// PyTorch, and in none here.
func TestScriptAttributesAreNoState(t *testing.T) {
	tensor, text := pickledTensor, pickledText
	raw := zipped(zip.Store, "a/data.pkl", "\x80\x02c__torch__\nM\n)\x81}("+text("ctx")+tensor("FloatStorage", "0")+text("b")+tensor("FloatStorage", "1")+"ub.",
		"a/data/0", four, "a/data/1", four, "a/constants.pkl", "\x80\x02).", "a/code/__torch__.py", scriptCode)
	f, err := Parse("script", bytes.NewReader(raw), int64(len(raw)))
	if err != nil {
		t.Fatal(err)
	}
	state, err := f.StateDict(f.Root)
	if err != nil || len(state) != 1 || state["ctx"] == nil {
		t.Errorf("got %v, %v, want ctx alone", state, err)
	}
}

func FuzzOpen(f *testing.F) {
	for _, x := range hostile() {
		if len(x.raw) < 1<<14 {
			f.Add(x.raw)
		}
	}
	for _, name := range []string{"numbers-zip.pt", "numbers-legacy.pt", "dassl-zip.pt", "dassl-legacy.pt", "script.pt"} {
		f.Add(read(name))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := use("fuzz.pt", raw); err != nil && (strings.Contains(err.Error(), "\n") || len(err.Error()) > 1000) {
			t.Errorf("an error of %d bytes: %.200q", len(err.Error()), err.Error())
		}
	})
}

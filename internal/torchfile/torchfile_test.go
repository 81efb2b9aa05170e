package torchfile

import (
	"archive/zip"
	"bytes"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"clipinspector/internal/dense"
	"clipinspector/internal/pickle"
	"clipinspector/internal/safetensors"
)

func openFile(t testing.TB, path string) *File {
	t.Helper()
	f, err := Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func floats(t testing.TB, x *Tensor) []float32 {
	t.Helper()
	v, err := x.Float32()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Tensors of every type and layout come out of files that PyTorch wrote, in both formats.
func TestNumbers(t *testing.T) {
	quarter := make([]float32, 12) // -1, -0.75, ...
	whole := make([]float32, 12)
	count := make([]float32, 12)
	positive := make([]float32, 12)
	for i := range quarter {
		quarter[i] = float32(i)/4 - 1
		whole[i] = float32(i) - 4
		count[i] = float32(i)
		if quarter[i] > 0 {
			positive[i] = 1
		}
	}
	pick := func(at ...int) []float32 {
		out := []float32{}
		for _, i := range at {
			out = append(out, quarter[i])
		}
		return out
	}
	want := map[string]struct {
		dtype  safetensors.DType
		shape  []int
		values []float32
	}{
		"float32": {"F32", []int{3, 4}, quarter}, "float16": {"F16", []int{3, 4}, quarter}, "bfloat16": {"BF16", []int{3, 4}, quarter},
		"float64": {"F64", []int{3, 4}, quarter}, "int64": {"I64", []int{3, 4}, whole}, "int32": {"I32", []int{3, 4}, whole},
		"int16": {"I16", []int{3, 4}, whole}, "int8": {"I8", []int{3, 4}, whole}, "uint8": {"U8", []int{3, 4}, count},
		"bool": {"BOOL", []int{3, 4}, positive}, "transposed": {"F32", []int{4, 3}, pick(0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11)},
		"part": {"F32", []int{2, 2}, pick(5, 6, 9, 10)}, "every other": {"F32", []int{3, 2}, pick(0, 2, 4, 6, 8, 10)},
		"permuted":  {"F32", []int{2, 3, 2}, pick(0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9, 11)},
		"parameter": {"F32", []int{3, 4}, quarter}, "scalar": {"F32", []int{}, []float32{2.5}}, "empty": {"F32", []int{0, 3}, []float32{}},
	}
	for _, format := range []string{"zip", "legacy"} {
		f := openFile(t, "testdata/numbers-"+format+".pt")
		if f.Format != format {
			t.Errorf("%s is told to be %s", format, f.Format)
		}
		got, err := f.StateDict(f.Root)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(want) {
			t.Errorf("%s: %d tensors, want %d", format, len(got), len(want))
		}
		for name, w := range want {
			x := got[name]
			if x == nil {
				t.Errorf("%s: %s is missing", format, name)
				continue
			}
			if v := floats(t, x); x.DType != w.dtype || !slices.Equal(x.Shape, w.shape) || !slices.Equal(v, w.values) {
				t.Errorf("%s: %s is %s %v %v, want %v", format, name, x.DType, x.Shape, v, w)
			}
		}
	}
}

// A TorchScript archive gives the parameters and buffers of its modules by their names.
func TestTorchScript(t *testing.T) {
	f := openFile(t, "testdata/script.pt")
	got, err := f.StateDict(f.Root)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]float32{"blocks.0.weight": {0, .125, .25, .375, .5, .625}, "blocks.0.size": {7}, "blocks.1.weight": {1, 1, 1},
		"blocks.1.bias": {0, 0, 0}, "scale": {4.5}}
	if f.Format != "TorchScript" || len(got) != len(want) {
		t.Errorf("%s with %d tensors", f.Format, len(got))
	}
	for name, w := range want {
		if x := got[name]; x == nil || !slices.Equal(floats(t, x), w) {
			t.Errorf("%s: got %v", name, x)
		}
	}
}

// A checkpoint with a whole scheduler and a whole optimiser inside: both stay inert, the state dict
// and the rest can be read.
func TestDasslCheckpoint(t *testing.T) {
	for _, format := range []string{"zip", "legacy"} {
		f := openFile(t, "testdata/dassl-"+format+".pt")
		root, ok := pickle.AsDict(f.Root)
		if !ok {
			t.Fatalf("%s: %s", format, pickle.TypeName(f.Root))
		}
		state, _ := root.Get("state_dict")
		got, err := f.StateDict(state)
		if err != nil {
			t.Fatal(err)
		}
		want := make([]float32, 16)
		for i := range want {
			grad := float32(1)/1024 + 5e-4*float32(i)/64
			want[i] = float32(i)/64 - 0.002*grad
		}
		for i, v := range floats(t, got["ctx"]) {
			if math.Abs(float64(v-want[i])) > 2e-4 { // half precision
				t.Errorf("%s: ctx[%d] is %v, want about %v", format, i, v, want[i])
			}
		}
		if x := got["token_prefix"]; x == nil || !slices.Equal(x.Shape, []int{3, 1, 8}) || x.DType != "F16" {
			t.Errorf("%s: token_prefix is %+v", format, x)
		}
		if epoch, _ := root.Get("epoch"); epoch != int64(50) {
			t.Errorf("%s: epoch %v", format, epoch)
		}
		if v, _ := root.Get("val_result"); v != 97.5 {
			t.Errorf("%s: val_result %v", format, v)
		}
		scheduler, _ := root.Get("scheduler")
		d, _ := pickle.AsDict(scheduler)
		successor, _ := d.Get("successor")
		o, ok := successor.(*pickle.Object)
		if !ok || o.Class != (pickle.Global{Module: "torch.optim.lr_scheduler", Name: "CosineAnnealingLR"}) {
			t.Fatalf("%s: the successor is %s", format, pickle.TypeName(successor))
		}
		inner, _ := pickle.AsDict(o.State)
		optimizer, _ := inner.Get("optimizer")
		if o, ok := optimizer.(*pickle.Object); !ok || o.Class.(pickle.Global).Name != "SGD" {
			t.Errorf("%s: the successor's optimiser is %s", format, pickle.TypeName(optimizer))
		}
	}
}

var written = Entries{
	{"state_dict", Entries{
		{"ctx", dense.New([]float32{1, 2, 3, 4, 5, 6}, 2, 3)},
		{"scalar", dense.New([]float32{0.5})}}},
	{"epoch", int64(7)}, {"optimizer", nil}, {"val_result", 1.5}, {"target_name", "käse"}}

// What Write writes is read back, here and, where CLIPINSPECTOR_PYTHON names an interpreter, by
// torch.load with and without weights_only, mapped and not.
func TestWrite(t *testing.T) {
	path := filepath.Join(t.TempDir(), "model.pth.tar-7")
	for range 2 {
		before, _ := os.ReadFile(path)
		if err := Write(path, written); err != nil {
			t.Fatal(err)
		}
		if after, _ := os.ReadFile(path); before != nil && !bytes.Equal(before, after) {
			t.Error("written again, it is other bytes")
		}
	}
	f := openFile(t, path)
	root, _ := pickle.AsDict(f.Root)
	state, _ := root.Get("state_dict")
	got, err := f.StateDict(state)
	if err != nil {
		t.Fatal(err)
	}
	if x := got["ctx"]; x == nil || !slices.Equal(x.Shape, []int{2, 3}) || !slices.Equal(floats(t, x), []float32{1, 2, 3, 4, 5, 6}) {
		t.Errorf("ctx came back as %v", x)
	}
	for key, want := range map[string]any{"epoch": int64(7), "optimizer": nil, "val_result": 1.5, "target_name": "käse"} {
		if v, ok := root.Get(key); !ok || v != want {
			t.Errorf("%s came back as %v", key, v)
		}
	}
	python := os.Getenv("CLIPINSPECTOR_PYTHON")
	if python == "" {
		t.Skip("CLIPINSPECTOR_PYTHON is not set: torch.load was not asked")
	}
	const script = `
import collections, sys, torch
for only in (True, False):
    for mapped in (True, False):
        d = torch.load(sys.argv[1], map_location="cpu", weights_only=only, mmap=mapped)
        s = d["state_dict"]
        assert type(s) is collections.OrderedDict and list(s) == ["ctx", "scalar"], s
        assert torch.equal(s["ctx"], torch.arange(1, 7.).reshape(2, 3)) and s["ctx"].is_contiguous()
        assert s["ctx"].data_ptr() % 64 == 0 or not mapped
        assert s["scalar"].shape == () and s["scalar"] == 0.5
        assert d["epoch"] == 7 and d["optimizer"] is None and d["val_result"] == 1.5 and d["target_name"] == "käse"
`
	if out, err := exec.Command(python, "-c", script, path).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// rebuild is the pickle of a tensor over storage "0".
func rebuild(class string, numbers int64, offset, shape, stride any) *pickle.Object {
	id := pickle.Tuple{"storage", pickle.Global{Module: "torch", Name: class}, "0", "cpu", numbers}
	return &pickle.Object{Class: pickle.Global{Module: "torch._utils", Name: "_rebuild_tensor_v2"},
		Args: pickle.Tuple{&pickle.Persistent{ID: id}, offset, shape, stride, false, orderedDict()}}
}

// stateDict is the pickle of one tensor, ctx.
func stateDict(x any) []byte {
	var b bytes.Buffer
	if err := pickle.Encode(&b, &pickle.Dict{Keys: []any{"ctx"}, Values: []any{x}}); err != nil {
		panic(err)
	}
	return b.Bytes()
}

// zipped is a zip file of entries in turn: name, content, name, ..., and the version that PyTorch
// wants.
func zipped(method uint16, entries ...string) []byte {
	folder, _, _ := strings.Cut(entries[0], "/")
	return zippedAlone(method, append(entries, folder+"/version", "3\n")...)
}

func zippedAlone(method uint16, entries ...string) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := 0; i < len(entries); i += 2 {
		w, err := z.CreateHeader(&zip.FileHeader{Name: entries[i], Method: method})
		if err == nil {
			_, err = w.Write([]byte(entries[i+1]))
		}
		if err != nil {
			panic(err)
		}
	}
	if err := z.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
}

func read(name string) []byte {
	b, err := os.ReadFile("testdata/" + name)
	if err != nil {
		panic(err)
	}
	return b
}

// What trainers keep beside the weights is read, or passed over, in every protocol: PyTorch writes
// it here.
func TestWhatTrainersKeep(t *testing.T) {
	python := os.Getenv("CLIPINSPECTOR_PYTHON")
	if python == "" {
		t.Skip("CLIPINSPECTOR_PYTHON is not set: nobody writes the files")
	}
	dir := t.TempDir()
	const script = `
import argparse, collections, datetime, pathlib, random, sys
import numpy as np, torch
kept = dict(f8=np.float64(1.5), f4=np.float32(1), i8=np.int64(3), b=np.bool_(True), c=np.complex128(1 + 2j), array=np.arange(6.).reshape(2, 3),
    columns=np.asfortranarray(np.arange(6.).reshape(2, 3)), empty=np.zeros((3, 0)), bytes=b"", more=b"\xff\x00", nothing=torch.zeros(3, 0),
    random=[np.random.get_state(), torch.get_rng_state(), random.getstate()], now=datetime.datetime.now(), today=datetime.date.today(),
    took=datetime.timedelta(days=-3, seconds=5), path=pathlib.Path("/a/b"), args=argparse.Namespace(a=1, l=[1], d={"a": 1}),
    default=collections.defaultdict(list, {"a": [1]}), counter=collections.Counter("abca"), deque=collections.deque([1, 2], maxlen=3),
    set={1, 2, "a"}, frozen=frozenset([1]), complex=1 + 2j, array_of_bytes=bytearray(b"abc"), device=torch.device("cuda", 0),
    size=torch.Size([1, 2]), dtype=torch.float32, large=1 << 80, dtypes=np.dtype("f4"), keys={(1, 2): 3, None: 4, b"k": 1})
for name, value in kept.items():
    root = {"state_dict": {"ctx": torch.arange(6.)}, "kept": value}
    for protocol in (2, 3, 4, 5):
        torch.save(root, f"{sys.argv[1]}/{name}-{protocol}.pt", pickle_protocol=protocol)
    torch.save(root, f"{sys.argv[1]}/{name}-legacy.pt", _use_new_zipfile_serialization=False)
`
	if out, err := exec.Command(python, "-c", script, dir).CombinedOutput(); err != nil {
		t.Skipf("%s writes no files: %v\n%s", python, err, out)
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.pt"))
	if err != nil || len(files) != 150 {
		t.Fatalf("%d files of PyTorch, want 150 (%v)", len(files), err)
	}
	for _, path := range files {
		raw, err := os.ReadFile(path)
		if err == nil {
			err = use(filepath.Base(path), raw)
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// Weights under two names count once.
func TestTiedWeights(t *testing.T) {
	x := rebuild("FloatStorage", 4, int64(0), pickle.Tuple{int64(4)}, pickle.Tuple{int64(1)})
	var b bytes.Buffer
	if err := pickle.Encode(&b, &pickle.Dict{Keys: []any{"clip_model.visual.proj", "image_encoder.proj", "ctx"}, Values: []any{x, x, x}}); err != nil {
		t.Fatal(err)
	}
	raw := zipped(zip.Store, "a/data.pkl", b.String(), "a/data/0", strings.Repeat("x", 16))
	if err := use("tied.pt", raw); err != nil {
		t.Error(err)
	}
}

package safetensors

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	reference "github.com/nlpodyssey/safetensors"
	"gorgonia.org/tensor"

	"clipinspector/internal/dense"
)

func equal(t *testing.T, name string, d *tensor.Dense, shape []int, want ...float32) {
	t.Helper()
	if d == nil {
		t.Errorf("%s is missing", name)
		return
	}
	got := Values(d)
	if !slices.Equal([]int(d.Shape()), shape) || len(got) != len(want) {
		t.Errorf("%s: shape %v and %d values, want %v", name, d.Shape(), len(got), shape)
		return
	}
	for i := range got {
		if math.Float32bits(got[i]) != math.Float32bits(want[i]) {
			t.Errorf("%s[%d]: got %v, want %v", name, i, got[i], want[i])
		}
	}
}

// The fixtures are written by the reference implementation, see testdata/oracle.py.
func TestReadsReference(t *testing.T) {
	f, err := Read("testdata/fixture.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	third := func(i int) float32 { return float32(i)/3 - 1 }
	equal(t, "f32", f.Tensors["f32"], []int{2, 3}, third(0), third(1), third(2), third(3), third(4), third(5))
	equal(t, "f16", f.Tensors["f16"], []int{7}, 0, float32(math.Copysign(0, -1)), 0.333251953125, 65504, 0x1p-24,
		6.198883056640625e-05, float32(math.Inf(1)))
	equal(t, "bf16", f.Tensors["bf16"], []int{2, 3}, -1, -0.66796875, -0.333984375, 0, 0.333984375, 0.66796875)
	equal(t, "scalar", f.Tensors["scalar"], nil, 4.6052)
	if f.Tensors["position_ids"] == nil || len(f.Skipped) != 0 || len(f.Tensors) != 5 {
		t.Errorf("%d tensors, skipped %v", len(f.Tensors), f.Skipped)
	}
	if !reflect.DeepEqual(f.Metadata, map[string]string{"format": "pt"}) {
		t.Errorf("metadata %v", f.Metadata)
	}
}

func TestWritesWhatReferenceWrites(t *testing.T) {
	want, err := os.ReadFile("testdata/f32.safetensors")
	if err != nil {
		t.Fatal(err)
	}
	f, err := ReadBytes(want)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "x.safetensors")
	for range 3 {
		if err := Write(path, f); err != nil {
			t.Fatal(err)
		}
		if got, _ := os.ReadFile(path); !bytes.Equal(got, want) {
			t.Fatalf("wrote\n%q, the reference writes\n%q", got, want)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), "*")); len(left) != 1 {
		t.Errorf("files left behind: %v", left)
	}
}

func TestRoundTrip(t *testing.T) {
	base := dense.New([]float32{0, 1, 2, 3, 4, 5}, 2, 3)
	transposed := base.Clone().(*tensor.Dense)
	if err := transposed.T(); err != nil {
		t.Fatal(err)
	}
	view, err := base.Slice(nil, tensor.S(1, 3))
	if err != nil {
		t.Fatal(err)
	}
	row, err := base.Slice(tensor.S(1))
	if err != nil {
		t.Fatal(err)
	}
	f := &File{Tensors: map[string]*tensor.Dense{
		"transposed": transposed,
		"view":       view.(*tensor.Dense),
		"row":        row.(*tensor.Dense),
		"columns":    tensor.New(tensor.WithShape(2, 3), tensor.AsFortran([]float32{0, 1, 2, 3, 4, 5})),
		"odd":        dense.New([]float32{1, 2, 3}, 3),
		"one":        dense.New([]float32{7}, 1, 1),
		"scalar":     tensor.New(tensor.FromScalar(float32(-2))),
		"ünï \"code": dense.New(make([]float32, 70000), 7, 10000),
	}, Metadata: map[string]string{"b": "<&>", "a": "\n"}}
	path := filepath.Join(t.TempDir(), "x.safetensors")
	for _, opts := range [][]Option{nil, {As(F16)}, {AsFunc(func(_ string, shape []int) DType {
		if len(shape) > 1 {
			return F16
		}
		return F32
	})}} {
		if err := Write(path, f, opts...); err != nil {
			t.Fatal(err)
		}
		g, err := Read(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(g.Tensors) != len(f.Tensors) || !reflect.DeepEqual(f.Metadata, g.Metadata) {
			t.Errorf("%d tensors and metadata %q came back", len(g.Tensors), g.Metadata)
		}
		equal(t, "transposed", g.Tensors["transposed"], []int{3, 2}, 0, 3, 1, 4, 2, 5)
		equal(t, "view", g.Tensors["view"], []int{2, 2}, 1, 2, 4, 5)
		equal(t, "row", g.Tensors["row"], []int{3}, 3, 4, 5)
		equal(t, "columns", g.Tensors["columns"], []int{2, 3}, 0, 1, 2, 3, 4, 5)
		equal(t, "odd", g.Tensors["odd"], []int{3}, 1, 2, 3)
		equal(t, "one", g.Tensors["one"], []int{1, 1}, 7)
		equal(t, "scalar", g.Tensors["scalar"], nil, -2)
		data, _ := os.ReadFile(path)
		if _, err := reference.Deserialize(data); err != nil {
			t.Errorf("another reader: %v", err)
		}
	}
	before, _ := os.ReadFile(path)
	f.Tensors["odd"] = dense.New([]float32{1e5}, 1)
	if err := Write(path, f, As(F16)); err == nil || !strings.Contains(err.Error(), "too large for F16") {
		t.Errorf("1e5 as F16: error %v", err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(before, after) {
		t.Error("a failed Write changed the file")
	}
	f.Tensors["odd"] = tensor.New(tensor.WithShape(1), tensor.WithBacking([]float64{1}))
	if err := Write(path, f); err == nil {
		t.Error("float64 was written")
	}
}

// Every half goes to float32 and back, and every float32 between two neighbours is rounded to the
// nearer one, ties to even.
func TestHalf(t *testing.T) {
	for h := range 1 << 16 {
		v := fromHalf(uint16(h))
		if got := toHalf(v); got != uint16(h) && !(math.IsNaN(float64(v)) && got == uint16(h)|0x200) {
			t.Fatalf("half %#x is %v and comes back as %#x", h, v, got)
		}
		if h&0x7fff >= 0x7bff {
			continue
		}
		next := fromHalf(uint16(h + 1))
		mid := v + (next-v)/2
		even := uint16(h + h&1)
		for _, c := range []struct {
			v    float32
			want uint16
		}{{mid, even}, {math.Nextafter32(mid, v), uint16(h)}, {math.Nextafter32(mid, next), uint16(h + 1)}} {
			if got := toHalf(c.v); got != c.want {
				t.Fatalf("%v: got %#x, want %#x", c.v, got, c.want)
			}
		}
	}
	// bfloat16 has 8 bits: 1 + 2^-8 lies between two of its numbers, of which the even one is
	// taken.
	for v, want := range map[float32]float32{1 + 0x1p-8: 1, 1 + 0x1.8p-7: 1 + 0x1p-6, 1 + 0x1.01p-8: 1 + 0x1p-7, -3.14159: -3.140625, math.MaxFloat32: float32(math.Inf(1)),
		float32(math.Inf(-1)): float32(math.Inf(-1)), 0x1p-149: 0} {
		if got := Round(v, BF16); got != want {
			t.Errorf("%v is %v as bfloat16, want %v", v, got, want)
		}
	}
	if got := Round(float32(math.NaN()), BF16); got == got {
		t.Errorf("NaN is %v as bfloat16", got)
	}
	if toHalf(65519.99) != 0x7bff || toHalf(65520) != 0x7c00 || toHalf(-1e30) != 0xfc00 || toHalf(1e-30) != 0 {
		t.Error("the ends of the range")
	}
}

func raw(header string, data int) []byte {
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(header)))
	return append(append(b, header...), make([]byte, data)...)
}

func TestRefusals(t *testing.T) {
	ok := `"dtype":"F32","shape":[1],"data_offsets":[0,4]`
	for name, c := range map[string]struct {
		file []byte
		want string
	}{
		"short":           {[]byte("abc"), "too few"},
		"huge header":     {binary.LittleEndian.AppendUint64(nil, math.MaxUint64), "header says"},
		"header past end": {binary.LittleEndian.AppendUint64(nil, 10), "header says"},
		"no object":       {raw(" {}", 0), "begin with {"},
		"not UTF-8":       {raw("{\"\xff\":{}}", 0), "UTF-8"},
		"trailing":        {raw("{}{}", 0), "follows"},
		"unclosed":        {raw(`{"a":{`+ok, 4), "EOF"},
		"twice":           {raw(`{"a":{`+ok+`},"a":{`+ok+`}}`, 4), "twice"},
		"field twice":     {raw(`{"a":{"dtype":"F16",`+ok+`}}`, 4), "twice"},
		"missing field":   {raw(`{"a":{"dtype":"F32","shape":[1]}}`, 4), "missing"},
		"unknown field":   {raw(`{"a":{`+ok+`,"x":1}}`, 4), "unknown field"},
		"unknown dtype":   {raw(`{"a":{"dtype":"X","shape":[1],"data_offsets":[0,4]}}`, 4), "unknown dtype"},
		"negative":        {raw(`{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}`, 4), "natural"},
		"fraction":        {raw(`{"a":{"dtype":"F32","shape":[1.5],"data_offsets":[0,4]}}`, 4), "natural"},
		"overflow":        {raw(`{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}`, 4), "overflow"},
		"wraps bytes":     {raw(`{"a":{"dtype":"F32","shape":[4611686018427387905],"data_offsets":[0,4]}}`, 4), "overflow"},
		"rank":            {raw(`{"a":{"dtype":"F32","shape":[`+strings.Repeat("1,", 20)+`1],"data_offsets":[0,4]}}`, 4), "more than 16"},
		"size":            {raw(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}`, 4), "does not fit"},
		"beyond":          {raw(`{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}`, 4), "outside"},
		"backwards":       {raw(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}`, 4), "outside"},
		"overlap":         {raw(`{"a":{`+ok+`},"b":{`+ok+`}}`, 4), "overlap"},
		"gap":             {raw(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}`, 8), "gap"},
		"rest":            {raw(`{"a":{`+ok+`}}`, 5), "no tensor"},
		"empty tensor":    {raw(`{"a":{"dtype":"F32","shape":[0,3],"data_offsets":[0,0]}}`, 0), "no elements"},
		"metadata":        {raw(`{"__metadata__":{"a":1}}`, 0), "string"},
		"one offset":      {raw(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[4]}}`, 4), "two numbers"},
	} {
		_, err := ReadBytes(c.file)
		if err == nil || !strings.Contains(err.Error(), c.want) || len(err.Error()) > 400 {
			t.Errorf("%s: got error %v, want one with %q", name, err, c.want)
		}
	}
	if _, err := Read(t.TempDir()); err == nil {
		t.Error("a folder was read")
	}
}

// A header of the largest size, of whatever, is read or refused within 100 MB.
func TestHostileHeaders(t *testing.T) {
	const size = maxHeader - 100
	repeated := func(item string) string { // with its number for %d
		var b strings.Builder
		for i := 0; b.Len() < size-len(item)-10; i++ {
			fmt.Fprintf(&b, item+",", i)
		}
		return strings.TrimSuffix(b.String(), ",")
	}
	for name, c := range map[string]struct{ header, want string }{
		"tensors":     {"{" + repeated(`"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}`) + "}", "more than 16384 names"},
		"metadata":    {`{"__metadata__":{` + repeated(`"%d":""`) + "}}", "more than 16384 keys"},
		"long names":  {"{" + repeated(`"%d`+strings.Repeat("x", 4000)+`":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}`) + "}", "no elements"},
		"a string":    {`{"__metadata__":{"a":"` + strings.Repeat("x", size) + `"}}`, ""},
		"escapes":     {`{"__metadata__":{"a":"` + strings.Repeat(`\u0041`, size/6) + `"}}`, ""},
		"brackets":    {`{"a":` + strings.Repeat("[", size), "want"},
		"digits":      {`{"a":{"shape":[` + strings.Repeat("1", size), "no natural number"},
		"no end":      {`{"a` + strings.Repeat("x", size), "EOF"},
		"white space": {"{" + strings.Repeat(" ", size) + "}", ""},
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		begin := time.Now()
		_, err := ReadBytes(raw(c.header, 0))
		took := time.Since(begin)
		runtime.ReadMemStats(&after)
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want) || len(err.Error()) > 400) {
			t.Errorf("%s: got error %.400v, want one with %q", name, err, c.want)
		}
		// Garbage counts here as well; the bound on time leaves room for a busy machine.
		if asked := (after.TotalAlloc - before.TotalAlloc) >> 20; asked > 100 || took > 5*time.Second {
			t.Errorf("%s: asked for %d MB in all and took %v", name, asked, took)
		}
		t.Logf("%-12s %3d MB, %v", name, (after.TotalAlloc-before.TotalAlloc)>>20, took)
	}
}

func TestSharded(t *testing.T) {
	dir := t.TempDir()
	for i := range 2 {
		f := &File{Tensors: map[string]*tensor.Dense{fmt.Sprint("t", i): dense.New([]float32{float32(i)}, 1)}}
		if err := Write(filepath.Join(dir, fmt.Sprint(i, ".safetensors")), f); err != nil {
			t.Fatal(err)
		}
	}
	index := filepath.Join(dir, "model.safetensors.index.json")
	for _, c := range []struct{ index, want string }{
		{`{"metadata":{"total_size":8},"weight_map":{"t0":"0.safetensors","t1":"1.safetensors"}}`, ""},
		{`{"weight_map":{"t0":"0.safetensors","t1":"0.safetensors"}}`, "not in"},
		{`{"weight_map":{"x":"0.safetensors"}}`, "not in the weight_map"},
		{`{"weight_map":{"t0":"../0.safetensors"}}`, "beside"},
		{`{"weight_map":{"t0":"/etc/passwd"}}`, "beside"},
		{`{"weight_map":{"t0":".."}}`, "beside"},
		{`{"weight_map":{"t0":""}}`, "beside"},
		{`{"weight_map":{}}`, "empty"},
		{`[`, "index"},
	} {
		if err := os.WriteFile(index, []byte(c.index), 0o644); err != nil {
			t.Fatal(err)
		}
		f, err := ReadSharded(index)
		if c.want == "" {
			if err != nil {
				t.Fatal(err)
			}
			equal(t, "t0", f.Tensors["t0"], []int{1}, 0)
			equal(t, "t1", f.Tensors["t1"], []int{1}, 1)
		} else if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want one with %q", c.index, err, c.want)
		}
	}
}

// TestPythonReads lets the reference implementation read what Write writes; CLIPINSPECTOR_PYTHON
// names an interpreter with safetensors and numpy.
func TestPythonReads(t *testing.T) {
	python := os.Getenv("CLIPINSPECTOR_PYTHON")
	if python == "" {
		t.Skip("CLIPINSPECTOR_PYTHON is not set")
	}
	path := filepath.Join(t.TempDir(), "x.safetensors")
	f := &File{Metadata: map[string]string{"k": "<v>"}, Tensors: map[string]*tensor.Dense{
		"a": dense.New([]float32{1, 2, 3, 4, 5, 6}, 2, 3), "h": dense.New([]float32{1. / 3, 65504, 1e-7}, 3), "s": tensor.New(tensor.FromScalar(float32(4.5))),
	}}
	if err := Write(path, f, AsFunc(func(name string, _ []int) DType {
		if name == "h" {
			return F16
		}
		return F32
	})); err != nil {
		t.Fatal(err)
	}
	const script = `
import sys, numpy as np
from safetensors import safe_open
with safe_open(sys.argv[1], "np") as f:
    assert f.metadata() == {"k": "<v>"}, f.metadata()
    a, h, s = (f.get_tensor(k) for k in "ahs")
    assert a.dtype == np.float32 and (a == np.arange(1, 7).reshape(2, 3)).all(), a
    assert h.dtype == np.float16 and (h == np.array([1/3, 65504, 1e-7], np.float32).astype(np.float16)).all(), h
    assert s.shape == () and s == 4.5, s
`
	if out, err := exec.Command(python, "-c", script, path).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func FuzzReadBytes(f *testing.F) {
	f.Add(raw(`{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}`, 4))
	f.Add(raw(`{"__metadata__":{"a":"b"},"a":{"dtype":"F16","shape":[2,1],"data_offsets":[0,4]},"b":{"dtype":"I64","shape":[],"data_offsets":[4,12]}}`, 12))
	for _, name := range []string{"fixture", "f32"} {
		if data, err := os.ReadFile("testdata/" + name + ".safetensors"); err == nil {
			f.Add(data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := ReadBytes(data)
		if err != nil {
			return
		}
		total := 0
		for _, d := range got.Tensors {
			total += len(Values(d))
		}
		if 2*total > len(data) {
			t.Fatalf("%d numbers out of %d bytes", total, len(data))
		}
		var b bytes.Buffer
		if err := got.encode(&b, nil); err != nil {
			t.Fatal(err)
		}
		again, err := ReadBytes(b.Bytes())
		if err != nil {
			t.Fatalf("what was written is refused: %v", err)
		}
		for name, d := range got.Tensors {
			equal(t, name, again.Tensors[name], []int(d.Shape()), Values(d)...)
		}
	})
}

// FuzzReadSharded reads indices whose parts may or may not be there.
func FuzzReadSharded(f *testing.F) {
	dir := f.TempDir()
	if err := Write(filepath.Join(dir, "a.safetensors"), &File{Tensors: map[string]*tensor.Dense{"x": tensor.New(tensor.FromScalar(float32(1)))}}); err != nil {
		f.Fatal(err)
	}
	index := filepath.Join(dir, "model.safetensors.index.json")
	for _, s := range []string{`{"metadata": {"total_size": 4}, "weight_map": {"x": "a.safetensors"}}`, `{"weight_map": {"x": "../a.safetensors"}}`,
		`{"weight_map": {"x": "a.safetensors", "y": "a.safetensors"}}`, `{"weight_map": null}`, `[]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		if err := os.WriteFile(index, raw, 0o644); err != nil {
			t.Fatal(err)
		}
		out, err := ReadSharded(index)
		if err == nil && (len(out.Tensors) != 1 || out.Tensors["x"] == nil) {
			t.Errorf("%q gives %v", raw, out.Tensors)
		}
	})
}

// A header of 99 MB costs nothing, and the largest that is looked through no more than a second and
// 100 MB.
func TestLargeHeaders(t *testing.T) {
	dir := t.TempDir()
	for size, want := range map[int]string{99 << 20: "at most", maxHeader: "more than 16384 names"} {
		path := filepath.Join(dir, "x.safetensors")
		f, err := os.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		var b bytes.Buffer
		binary.Write(&b, binary.LittleEndian, uint64(size))
		b.WriteByte('{')
		for i := 0; b.Len() < min(size, maxHeader)-100; i++ {
			fmt.Fprintf(&b, `"%x":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},`, i)
		}
		b.WriteString(`"z":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}`)
		b.Write(bytes.Repeat([]byte("x"), max(0, min(size, maxHeader)+8-b.Len())))
		_, err = f.Write(b.Bytes())
		if err == nil {
			err = f.Truncate(int64(size) + 8)
		}
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		b = bytes.Buffer{}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		begin := time.Now()
		_, err = Open(path)
		took := time.Since(begin)
		runtime.ReadMemStats(&after)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a header of %d bytes: %v, want an error that says %q", size, err, want)
		}
		asked := (after.TotalAlloc - before.TotalAlloc) >> 20
		if asked > 100 || took > 10*time.Second { // garbage counts; a busy machine has time
			t.Errorf("a header of %d bytes: %d MB in all, %v", size, asked, took)
		}
		t.Logf("a header of %d bytes: %d MB in all, %v: %.80v", size, asked, took, err)
	}
}

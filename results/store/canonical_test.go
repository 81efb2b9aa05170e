package store

import (
	"encoding/json"
	"math"
	"testing"
)

func TestCanonicalJSON(t *testing.T) {
	type inner struct {
		B float64 `json:"b"`
		A int     `json:"a"`
	}
	for _, c := range []struct {
		in   any
		want string
	}{
		{map[string]any{"b": 1.0, "a": []any{1e3, 0.1, math.Copysign(0, -1), "<é>"}}, `{"a":[1000,0.1,0,"<é>"],"b":1}`},
		{inner{B: 2.5, A: 3}, `{"a":3,"b":2.5}`},
		{map[string]any{"s": uint64(math.MaxUint64), "t": int64(math.MinInt64)}, `{"s":18446744073709551615,"t":-9223372036854775808}`},
		{map[string]any{"e": 1e-7, "f": float32(0.1), "n": nil}, `{"e":1e-7,"f":0.1,"n":null}`},
	} {
		got, err := CanonicalJSON(c.in)
		if err != nil || string(got) != c.want {
			t.Errorf("CanonicalJSON(%v) = %s, %v; want %s", c.in, got, err, c.want)
		}
		again, err := decodeJSON(got)
		if err != nil {
			t.Fatal(err)
		}
		if twice, err := CanonicalJSON(again); err != nil || string(twice) != c.want {
			t.Errorf("not a fixed point: %s, %v", twice, err)
		}
	}
	if _, err := CanonicalJSON(math.NaN()); err == nil {
		t.Error("NaN has no canonical JSON")
	}
}

func TestKeyIsTheHashOfTheSettings(t *testing.T) {
	// printf '{"a":1,"b":"x"}' | sha256sum
	const want = "ecf9e98ec0641e23113ff3ce8bdc78d0ddd249886517fd4a7f68cc83d4e65667"
	got, err := Key(map[string]any{"b": "x", "a": 1})
	if err != nil || got != want {
		t.Errorf("%s, %v", got, err)
	}
	if same, _ := Key(struct {
		B string  `json:"b"`
		A float64 `json:"a"`
	}{"x", 1}); same != got {
		t.Error("equal settings, different keys")
	}
}

// What settings are made of is written on a short way, with the same bytes as on the long one.
func TestTheShortWayWritesTheSameBytes(t *testing.T) {
	type values map[string]any
	for _, v := range []any{
		map[string]any{"b": 1, "a": values{"z": 0.1, "y": 1e300, "x": -3.0, "w": 1 << 40, "v": 2.5e-9}, "c": []any{true, false, nil, "text", []any{}}},
		values{}, map[string]any{"": ""}, "a<b>&c", 0.0, math.Copysign(0, -1), -1e15, 1e16, 9007199254740993.0, 1e-7, 123456789.5,
		[]any{map[string]any{"k": values{"n": 7}}},
	} {
		got, ok := appendCanonical(nil, v)
		want, err := slowCanonical(v)
		if err != nil || !ok || string(got) != string(want) {
			t.Errorf("%v: got %s (%v), want %s (%v)", v, got, ok, want, err)
		}
	}
	for _, v := range []any{"é", "\n", `"`, `\`, math.NaN(), math.Inf(1), []string{"a"}, struct{ A int }{1}, map[string]string{"a": "b"}, json.Number("1")} {
		if got, ok := appendCanonical(nil, v); ok {
			t.Errorf("%v goes the short way: %s", v, got)
		}
	}
}

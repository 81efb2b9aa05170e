package settings

import (
	"maps"
	"math"
	"strings"
	"testing"
)

var declared = []Param{
	{Name: "epsilon", Unit: "pixel value", Default: 0.5, Min: 0, Max: 1},
	{Name: "epochs", Default: 3, Min: 1, Max: 10},
	{Name: "offset", Default: -2.5}, // no range
	{Name: "layers", Default: true},
	{Name: "optimizer", Default: "sgd", Choices: []string{"sgd", "adam"}},
	{Name: "init", Default: ""}, // any word
}

func TestDefaultsFillWhatIsNotGiven(t *testing.T) {
	want := Values{"epsilon": 0.5, "epochs": 3, "offset": -2.5, "layers": true, "optimizer": "sgd", "init": ""}
	for _, given := range []map[string]any{nil, {}} {
		if got, err := Resolve(declared, given); err != nil || !maps.Equal(got, want) {
			t.Errorf("got %v, %v; want %v", got, err, want)
		}
	}
	if got, err := Resolve(nil, nil); err != nil || len(got) != 0 {
		t.Errorf("without settings: %v, %v", got, err)
	}
}

// What YAML and JSON make of a number need not be of the declared type.
func TestNumbersAreConverted(t *testing.T) {
	for _, c := range []struct {
		name        string
		given, want any
	}{
		{"epsilon", 1, 1.0}, {"epsilon", 0.25, 0.25}, {"epsilon", 0, 0.0},
		{"epochs", 10, 10}, {"epochs", 4.0, 4}, {"epochs", 1, 1},
		{"offset", -1e9, -1e9}, {"offset", 7, 7.0},
		{"layers", false, false}, {"optimizer", "adam", "adam"}, {"init", "a photo of a", "a photo of a"},
	} {
		got, err := Resolve(declared, map[string]any{c.name: c.given})
		if err != nil || got[c.name] != c.want {
			t.Errorf("%s: %v (%T) became %v (%T), %v", c.name, c.given, c.given, got[c.name], got[c.name], err)
		}
	}
}

func TestBadValuesAreRefused(t *testing.T) {
	for _, c := range []struct {
		name  string
		given any
		want  string // part of the error
	}{
		{"epsilon", 1.01, "0 to 1"}, {"epsilon", -0.01, "0 to 1"}, {"epsilon", math.NaN(), "finite"}, {"epsilon", "0.5", "number"},
		{"epsilon", true, "number"}, {"epsilon", nil, "number"},
		{"epochs", 0, "1 to 10"}, {"epochs", 11, "1 to 10"}, {"epochs", 2.5, "whole"}, {"epochs", 1e300, "whole"},
		{"epochs", math.NaN(), "whole"}, {"epochs", math.Inf(1), "whole"}, {"epochs", "2", "whole"},
		{"offset", math.Inf(-1), "finite"}, {"layers", 1, "true or false"}, {"layers", "true", "true or false"},
		{"optimizer", "rmsprop", "sgd, adam"}, {"optimizer", 1, "word"}, {"init", nil, "word"},
		{"epsilom", 0.5, "epsilon, epochs, offset, layers, optimizer, init"},
	} {
		got, err := Resolve(declared, map[string]any{c.name: c.given})
		if err == nil {
			t.Errorf("%s: %v was accepted as %v", c.name, c.given, got[c.name])
		} else if msg := err.Error(); !strings.Contains(msg, `"`+c.name+`"`) || !strings.Contains(msg, c.want) || strings.Contains(msg, "\n") {
			t.Errorf("%s: %v: the error %q should name the setting and say %q", c.name, c.given, msg, c.want)
		}
	}
	if _, err := Resolve(nil, map[string]any{"x": 1}); err == nil || !strings.Contains(err.Error(), "known are none") {
		t.Errorf("where nothing is declared: %v", err)
	}
}

// What a stranger writes into a file is reported in a line of modest length.
func TestErrorsStayShort(t *testing.T) {
	long := strings.Repeat("x\n", 1<<16)
	for _, given := range []map[string]any{{long: 1}, {"epsilon": long}, {"epochs": []any{long}}, {"layers": []any{long}}, {"optimizer": long},
		{"init": map[string]any{long: long}}} {
		if _, err := Resolve(declared, given); err == nil || len(err.Error()) > 300 || strings.Contains(err.Error(), "\n") {
			t.Errorf("the error is %.300q", err)
		}
	}
}

// Of several faults the same one is reported every time.
func TestTheFirstFaultByNameIsReported(t *testing.T) {
	for range 20 {
		_, err := Resolve(declared, map[string]any{"optimizer": "x", "epochs": 99, "zzz": 1, "layers": 3})
		if err == nil || !strings.Contains(err.Error(), `"epochs"`) {
			t.Fatalf("got %v, want the error of epochs", err)
		}
	}
}

func TestGivenValuesAreNotChanged(t *testing.T) {
	given := map[string]any{"epochs": 4.0}
	v, err := Resolve(declared, given)
	if err != nil {
		t.Fatal(err)
	}
	v["epochs"] = 9
	if given["epochs"] != 4.0 || len(given) != 1 {
		t.Errorf("the caller's map became %v", given)
	}
}

func TestAccessorsKnowTheDeclaredType(t *testing.T) {
	v, err := Resolve(declared, nil)
	if err != nil {
		t.Fatal(err)
	}
	if v.Float("epsilon") != 0.5 || v.Int("epochs") != 3 || !v.Bool("layers") || v.String("optimizer") != "sgd" {
		t.Errorf("accessors disagree with %v", v)
	}
	for what, f := range map[string]func(){
		"unknown name": func() { v.Float("epsilom") },
		"other type":   func() { v.Float("epochs") },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", what)
				}
			}()
			f()
		}()
	}
	defer func() {
		if recover() == nil {
			t.Error("a default of a type that is no setting's: no panic")
		}
	}()
	_, _ = Resolve([]Param{{Name: "x", Default: []int{1}}}, map[string]any{"x": 1})
}

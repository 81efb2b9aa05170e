package cmd

import (
	"io"
	"strings"
	"testing"

	"clipinspector/experiments"
	"clipinspector/experiments/suite"
	"clipinspector/internal/experimentstest"
)

func TestOneModelOfASuite(t *testing.T) {
	f := experimentstest.Read(t, suite.Parse, experimentstest.TinySuite(experimentstest.TinyCLIP(t)))
	one, err := suite.One(f, "mini-dtd", "sig", 3)
	if err != nil {
		t.Fatal(err)
	}
	u := one.Suites[0]
	if u.Datasets[0].Classes != 4 || u.Attacks[0].Name != "sig" || len(u.Detectors) != 0 || u.Seeds[0] != 3 {
		t.Errorf("%+v", u)
	}
	out := t.TempDir()
	run(t, one, out)
	var b strings.Builder
	if err := printModels(&b, out, one.Name); err != nil || !strings.Contains(b.String(), "mini-dtd, sig, seed 3: accuracy") {
		t.Errorf("%v\n%s", err, b.String())
	}
}

// run runs a suite into a folder.
func run(t *testing.T, f *suite.File, out string) {
	t.Helper()
	if _, err := experiments.Run(t.Context(), f, experiments.Options{Out: out}); err != nil {
		t.Fatal(err)
	}
}

// The tables of a folder in every format, grouped as asked for; a suite that is not there is
// refused.
func TestTablesOfAFolder(t *testing.T) {
	out := t.TempDir()
	run(t, experimentstest.Read(t, suite.Parse, experimentstest.TinySuite(experimentstest.TinyCLIP(t))), out)
	if _, err := writeReports(io.Discard, out, ""); err != nil {
		t.Error(err)
	}
	var table strings.Builder
	if err := printTable(&table, io.Discard, out, "tiny", "json", []string{"detector.epsilon"}); err != nil || !strings.Contains(table.String(), `"neural-cleanse"`) {
		t.Errorf("%v\n%s", err, table.String())
	}
	if err := printTable(&table, io.Discard, out, "small", "json", nil); err == nil || !strings.Contains(err.Error(), "there are tiny") {
		t.Errorf("unknown suite: %v", err)
	}
}

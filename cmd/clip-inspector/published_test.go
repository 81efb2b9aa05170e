package main

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A finished run of the default suite is the published one, whatever machine it ran on. `./run.sh
// check` names the run by the environment variable CLIPINSPECTOR_RUN.
func TestThisRunIsThePublishedOne(t *testing.T) {
	run := os.Getenv("CLIPINSPECTOR_RUN")
	if run == "" {
		t.Skip("CLIPINSPECTOR_RUN names no finished run: type ./run.sh check")
	}
	read := func(path string) string {
		t.Helper()
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	const published = "testdata/mini.sha256"
	sum := sha256.Sum256([]byte(read(filepath.Join(run, "scores.jsonl"))))
	if got, want := hex.EncodeToString(sum[:]), strings.TrimSpace(read(published)); got != want {
		t.Errorf("%s/scores.jsonl has sha256 %s, the published run %s (cmd/clip-inspector/%s)", run, got, want, published)
	}
	shown := append(tableRows(read("../../README.md"), "## What it prints"), tableRows(read("../../docs/claims.md"), "## The mini grid")...)
	printed := map[string]bool{}
	for _, row := range tableRows(read(filepath.Join(run, "table.md")), "") {
		printed[row] = true
	}
	if len(shown) < 10 {
		t.Fatalf("README and docs/claims.md show only %d rows of tables", len(shown))
	}
	for _, row := range shown {
		if !printed[row] {
			t.Errorf("README or docs/claims.md shows a row that %s/table.md does not have: %s", run, row)
		}
	}
}

// tableRows returns the rows of the Markdown tables in a text, or in the section of it that a
// heading begins, without the seconds, which are a machine's.
func tableRows(text, heading string) (rows []string) {
	if _, after, ok := strings.Cut(text, heading+"\n"); ok && heading != "" {
		text, _, _ = strings.Cut(after, "\n## ")
	}
	seconds := -1
	inside := false
	for _, line := range strings.Split(text, "\n") {
		if !strings.HasPrefix(line, "|") {
			inside = false
			continue
		}
		cells := strings.Split(strings.Trim(line, "| "), "|")
		for i := range cells {
			cells[i] = strings.TrimSpace(cells[i])
		}
		if !inside {
			inside, seconds = true, len(cells)
			if last := len(cells) - 1; strings.HasPrefix(cells[last], "seconds") {
				seconds = last
			}
		}
		if !strings.HasPrefix(cells[0], "-") && !strings.HasPrefix(cells[0], ":-") {
			rows = append(rows, strings.Join(cells[:min(seconds, len(cells))], "|"))
		}
	}
	return rows
}

package cmd

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Every verb that --help shows has a man page with its flags, and roff has nothing to say against
// it.
func TestManPages(t *testing.T) {
	dir := t.TempDir()
	if text, err := execute(t, "man", dir); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for _, verb := range Command().Commands() {
		if !verb.IsAvailableCommand() {
			continue
		}
		page, err := os.ReadFile(filepath.Join(dir, "clip-inspector-"+verb.Name()+".1"))
		if err != nil || !strings.Contains(string(page), ".SH OPTIONS") || !strings.Contains(string(page), `\-\-threads`) {
			t.Errorf("%s: got %v\n%s\nwant a page with its options", verb.Name(), err, page)
		}
	}
	groff, err := exec.LookPath("groff")
	if err != nil {
		t.Skip("groff is not here: pages are written, not typeset")
	}
	pages, err := filepath.Glob(filepath.Join(dir, "*.1"))
	if err != nil {
		t.Fatal(err)
	}
	said, err := exec.Command(groff, append([]string{"-man", "-Tascii", "-ww", "-z"}, pages...)...).CombinedOutput()
	if err != nil || len(said) > 0 {
		t.Errorf("groff: got %v\n%s\nwant no word", err, said)
	}
}

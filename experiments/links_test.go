package experiments

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"clipinspector/experiments/suite"
	"clipinspector/internal/experimentstest"
)

// In a folder from somebody else a link would lead writing out of it: no file appears where it
// points, and the run says so.
func TestLinksBelowTheOutputFolderAreNotFollowed(t *testing.T) {
	f := experimentstest.Read(t, suite.Parse, experimentstest.TinySuite(experimentstest.TinyCLIP(t)))
	out, elsewhere := t.TempDir(), t.TempDir()
	if err := os.Symlink(elsewhere, filepath.Join(out, "models")); err != nil {
		t.Skip(err)
	}
	_, err := Run(context.Background(), f, Options{Out: out})
	if err == nil || !strings.Contains(err.Error(), "is a link") {
		t.Errorf("%v", err)
	}
	if left, err := os.ReadDir(elsewhere); err != nil || len(left) > 0 {
		t.Errorf("written where the link points: %v, %v", left, err)
	}
}

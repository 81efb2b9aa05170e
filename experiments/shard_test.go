package experiments

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"clipinspector/experiments/suite"
	"clipinspector/experiments/world"
	"clipinspector/internal/experimentstest"
	"clipinspector/results/store"
)

func TestShardsAreSaidInOneWay(t *testing.T) {
	for _, c := range []struct {
		flag string
		env  map[string]string
		want string // "" for the whole suite, "!" for an error
	}{
		{"", nil, ""},
		{"3/8", nil, "3/8"},
		{"8/8", map[string]string{ShardVariable: "1/2"}, "8/8"},
		{"", map[string]string{ShardVariable: "1/2"}, "1/2"},
		// A task of an array that somebody uses for something else is no shard.
		{"", map[string]string{"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8"}, ""},
		{"auto", map[string]string{"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8", "SLURM_ARRAY_TASK_MIN": "1"}, "3/8"},
		{"auto", map[string]string{"SLURM_ARRAY_TASK_ID": "0", "SLURM_ARRAY_TASK_COUNT": "8", "SLURM_ARRAY_TASK_MIN": "0"}, "1/8"},
		{"auto", map[string]string{"SLURM_ARRAY_TASK_ID": "7", "SLURM_ARRAY_TASK_COUNT": "4", "SLURM_ARRAY_TASK_MIN": "1", "SLURM_ARRAY_TASK_STEP": "2"}, "4/4"},
		{"auto/8", map[string]string{"SLURM_ARRAY_TASK_ID": "5", "SLURM_ARRAY_TASK_COUNT": "1", "SLURM_ARRAY_TASK_MIN": "1"}, "5/8"},
		{"auto/4", map[string]string{"JOB_COMPLETION_INDEX": "0"}, "1/4"},
		{"auto", map[string]string{"JOB_COMPLETION_INDEX": "0"}, "!"},
		{"auto", nil, "!"},
		{"0/8", nil, "!"}, {"9/8", nil, "!"}, {"3", nil, "!"}, {"3/8/2", nil, "!"}, {"1/1000000", nil, "!"}, {"-1/2", nil, "!"},
		{"", map[string]string{ShardVariable: "x"}, "!"},
	} {
		s, err := ShardOf(c.flag, func(name string) string { return c.env[name] })
		if got := s.String(); c.want == "!" && err == nil || c.want != "!" && (err != nil || got != c.want) {
			t.Errorf("--shard %q with %v: got %q, %v, want %q", c.flag, c.env, got, err, c.want)
		}
	}
}

// cut is a suite to cut into shards: models that share references, and a detector without any.
func cut(t *testing.T) *suite.File {
	return held(t, "detectors=[{name: ci, optimise: 16, measure: 8, batch: 8}, {name: separation, optimise: 16, measure: 8, batch: 8}]", "seeds=[1,2]")
}

// Every cell is in one shard, wherever it is computed, and no shard has much more to do than
// another.
func TestShardsShareTheWork(t *testing.T) {
	f := cut(t)
	plan := func() *Plan {
		p, err := NewPlan(world.New(), f, "an engine")
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	whole := plan()
	for _, n := range []int{1, 2, 3, 5} {
		seen := map[string]int{}
		for i := range n {
			part := plan().part(Shard{i + 1, n})
			for _, m := range part.Models {
				seen[m.Cell.Key] = m.Cell.Order
			}
			for _, d := range part.Detections {
				if part.models[d.Model.Cell.Key] == nil {
					t.Errorf("shard %d of %d has a detection and not its model", i+1, n)
				}
				seen[d.Cell.Key] = d.Cell.Order
				for _, r := range d.References {
					if part.references[r.Cell.Key] == nil {
						t.Errorf("shard %d of %d has a detection and not its references", i+1, n)
					}
				}
			}
			for _, r := range part.References {
				if _, there := seen[r.Cell.Key]; there {
					t.Errorf("%s is in two shards of %d", r, n)
				}
				seen[r.Cell.Key] = r.Cell.Order
			}
		}
		if got, want := len(seen), len(whole.Models)+len(whole.References)+len(whole.Detections); got != want {
			t.Errorf("%d shards have %d cells, want %d", n, got, want)
		}
		for _, m := range whole.Models {
			if seen[m.Cell.Key] != m.Cell.Order {
				t.Errorf("in %d shards %s has place %d, want %d", n, m, seen[m.Cell.Key], m.Cell.Order)
			}
		}
		loads := whole.loads(n)
		sum, most, largest := 0.0, 0.0, 0.0
		for _, l := range loads {
			sum, most = sum+l, max(most, l)
		}
		for _, l := range whole.loads(len(whole.groups())) {
			largest = max(largest, l)
		}
		if most > sum/float64(n)+largest {
			t.Errorf("of %d shards one has %.3g operations, want at most the mean %.3g and one model more", n, most, sum/float64(n))
		}
	}
}

func merged(t *testing.T, dirs []string, out string) Merged {
	t.Helper()
	m, err := Merge(context.Background(), dirs, out, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(m) != 1 {
		t.Fatalf("%d suites are merged, want 1", len(m))
	}
	return m[0]
}

func TestMergedShardsHaveTheBytesOfOneRun(t *testing.T) {
	f := cut(t)
	want := runTiny(t, f, Options{Out: t.TempDir()})
	out := t.TempDir()
	shard := func(i int, scratch string) {
		t.Helper()
		if _, err := Run(context.Background(), f, Options{Out: out, Shard: Shard{i, 3}, Scratch: scratch}); err != nil {
			t.Fatal(err)
		}
	}
	shard(2, "")
	m := merged(t, []string{out}, out)
	if m.Partial() == "" || m.Models >= m.Whole || fmt.Sprint(m.Missing) != "[1 3]" {
		t.Errorf("one of three shards: %+v, %q, want a partial merge without shards 1 and 3", m, m.Partial())
	}
	shard(1, t.TempDir()) // as on a network file system
	shard(3, "")
	if _, err := os.Stat(filepath.Join(Shard{1, 3}.Folder(out), ownerFile)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("after a run its shard is still claimed: %v", err)
	}
	for range 2 { // again at any time
		if m = merged(t, []string{out}, out); m.Partial() != "" {
			t.Errorf("all three shards: %q, want a whole merge", m.Partial())
		}
		if got := exported(t, out, f.Name); !bytes.Equal(got, want) {
			t.Errorf("another export than an undivided run's: %s", experimentstest.FirstDifference(got, want))
		}
	}
	// The files came along: nothing is left to do for a run into the merged folder.
	p, err := Run(context.Background(), f, Options{Out: out})
	if err != nil || !p.Done() {
		t.Fatalf("a run into the merged folder: %+v, %v", p, err)
	}
	network := t.TempDir() // merged as on a network file system, into nothing and into what is there
	for range 2 {
		whole, err := mergeInto(context.Background(), []string{out}, network, t.TempDir(), nil)
		if err != nil || len(whole) != 1 || whole[0].Partial() != "" {
			t.Fatalf("merged by way of another folder: %+v, %v", whole, err)
		}
		if got := exported(t, network, f.Name); !bytes.Equal(got, want) {
			t.Errorf("merged by way of another folder: %s", experimentstest.FirstDifference(got, want))
		}
		if p, err := Run(context.Background(), f, Options{Out: network}); err != nil || !p.Done() {
			t.Fatalf("a run into it: %+v, %v", p, err)
		}
		if _, err := os.Stat(filepath.Join(network, ownerFile)); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("after the merge the folder is still claimed: %v", err)
		}
	}
	elsewhere := t.TempDir()
	if m = merged(t, []string{Shard{1, 3}.Folder(out), Shard{2, 3}.Folder(out), Shard{3, 3}.Folder(out)}, elsewhere); m.Partial() != "" {
		t.Errorf("shards by their own folders: %q", m.Partial())
	}
	if got := exported(t, elsewhere, f.Name); !bytes.Equal(got, want) {
		t.Errorf("merged elsewhere: %s", experimentstest.FirstDifference(got, want))
	}
	for _, row := range statuses(t, out) {
		if !row.Finished() {
			t.Errorf("status of a finished shard: %+v", row)
		}
	}
}

func statuses(t *testing.T, out string) []Status {
	t.Helper()
	all, err := StatusOf(out)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 3 {
		t.Fatalf("%d shards in the status, want 3", len(all))
	}
	return all
}

// The same cell with another result is refused and named, and nothing of that store is taken over.
func TestMergeRefusesAnotherResult(t *testing.T) {
	f := cut(t)
	a, b, out := t.TempDir(), t.TempDir(), t.TempDir()
	runTiny(t, f, Options{Out: a})
	if err := os.CopyFS(b, os.DirFS(a)); err != nil {
		t.Fatal(err)
	}
	s, err := store.Open(filepath.Join(b, StoreFile))
	if err != nil {
		t.Fatal(err)
	}
	rows, err := s.Detections(f.Name)
	if err != nil {
		t.Fatal(err)
	}
	r := rows[3]
	if err := s.Reopen(store.KindDetection, r.Cell.Key); err != nil {
		t.Fatal(err)
	}
	r.Result.Index += 1e-9
	if err := s.FinishDetection(r.Cell.Key, "somebody", r.Result); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = Merge(context.Background(), []string{a, b}, out, nil)
	if !errors.Is(err, store.ErrConflict) || !bytes.Contains([]byte(err.Error()), []byte(store.ShortKey(r.Cell.Key))) {
		t.Fatalf("merging two results of one cell: %v, want ErrConflict and the cell's key %s", err, store.ShortKey(r.Cell.Key))
	}
}

// A shard that another process computes is left to it.
func TestStagedFoldersHaveOneOwner(t *testing.T) {
	out := t.TempDir()
	s, err := openStage(out, t.TempDir(), true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := openStage(out, t.TempDir(), true); err == nil {
		t.Error("a second process staged the same folder")
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	if s, err = openStage(out, t.TempDir(), true); err != nil {
		t.Fatalf("after the first one ended: %v", err)
	}
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
}

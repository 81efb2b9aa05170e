package cluster_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// gridVariable names a new folder that a Slurm of this machine computes the mini grid into: 16
// minutes of a processor.
const gridVariable = "CLIPINSPECTOR_SLURM_GRID"

// The mini grid in eight shards, of which one is cancelled, one is told by Slurm that its time is
// nearly up, one is ended by Slurm at its time limit, and one of whose two nodes is drained, has
// the bytes of the published undivided run.
func TestMiniGrid(t *testing.T) {
	out := os.Getenv(gridVariable)
	if out == "" {
		t.Skipf("takes 16 minutes of a processor: name a new folder by %s", gridVariable)
	}
	out, err := filepath.Abs(out)
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	said := func(format string, args ...any) {
		t.Logf("%4.0f s: %s", time.Since(begun).Seconds(), fmt.Sprintf(format, args...))
	}
	want, err := os.ReadFile("../../cmd/clip-inspector/testdata/mini.sha256")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s := startSlurm(t)
	s.patience = 3 * time.Hour
	submit := func(more ...string) string {
		text := s.run(program, append([]string{"submit", "--slurm", "--shards", "8", "--out", out, "--mem", "1G"}, more...)...)
		said("submit %s: %s", strings.Join(more, " "), strings.TrimSpace(text))
		_, text, _ = strings.Cut(text, "submitted ") // after a line with the estimate
		job, _, _ := strings.Cut(text, ":")
		return job
	}
	state := func(task string) (state, restarts string) {
		text, _ := s.try("scontrol", "show", "job", task) // one that has ended is forgotten after ten minutes
		return field(text, "JobState"), field(text, "Restarts")
	}

	job := submit("--time", "2m")
	s.wait("two shards run", func() bool { return len(s.tasks(job, "RUNNING")) == 2 })
	first := s.tasks(job, "RUNNING")
	said("cancelled is %s", first[0])
	s.run("scancel", first[0])
	s.wait("the other one is queued again, told by Slurm that its time is nearly up", func() bool { _, n := state(first[1]); return n == "1" })
	said("%s was told 30 s before its limit of two minutes, gave its cells back and was queued again", first[1])
	var late string
	s.wait("a shard has run for a minute", func() bool {
		for _, line := range strings.Split(strings.TrimSpace(s.run("squeue", "-h", "-j", job, "-t", "RUNNING", "-r", "-o", "%i %M")), "\n") {
			if task, at, _ := strings.Cut(line, " "); strings.HasPrefix(at, "1:") {
				late = task
			}
		}
		return late != ""
	})
	s.run("scontrol", "update", "JobId="+late, "TimeLimit=1")
	s.wait("Slurm ends it", func() bool { is, _ := state(late); return is == "TIMEOUT" })
	said("%s, its limit set to a minute, was ended by Slurm: TIMEOUT", late)
	s.run("scancel", job)
	s.wait("the first merge ends", func() bool { return s.run("squeue", "-h") == "" })
	status := s.run(program, "status", out)
	said("status:\n%s", status)

	job = submit()
	s.wait("two shards run", func() bool { return len(s.tasks(job, "RUNNING")) == 2 })
	s.run("scontrol", "update", "NodeName=n2", "State=DRAIN", "Reason=test")
	s.wait("node n2 is drained", func() bool { return strings.TrimSpace(s.run("sinfo", "-h", "-n", "n2", "-o", "%T")) == "drained" })
	said("node n2 is drained; its shard went to its end")
	s.run("scontrol", "update", "NodeName=n2", "State=RESUME")
	s.wait("all jobs end", func() bool { return s.run("squeue", "-h") == "" })
	said("status:\n%s", s.run(program, "status", out))
	scores, err := os.ReadFile(filepath.Join(out, "scores.jsonl"))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(scores)
	said("sha256 of the merged scores.jsonl: %x", sum)
	if got := hex.EncodeToString(sum[:]); got != strings.TrimSpace(string(want)) {
		t.Errorf("the merged scores.jsonl has sha256 %s, the undivided run %s", got, want)
	}
}

// field is a field of what scontrol shows.
func field(text, name string) string {
	_, after, _ := strings.Cut(text, name+"=")
	value, _, _ := strings.Cut(after, " ")
	return strings.TrimSpace(value)
}

// Package cluster hands a suite to a batch system as an array of shards and a job that merges them.
package cluster

import (
	"bytes"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/template"
	"time"

	"clipinspector/experiments"
	"clipinspector/internal/files"
)

// RequeueStatus is the exit status of a run that was told to stop (SIGUSR1) and asks to be queued
// again: EX_TEMPFAIL of sysexits.h.
const RequeueStatus = 75

// Submission is a suite as it is handed to Slurm.
type Submission struct {
	Program   string        // path of clip-inspector on the nodes
	Arguments []string      // of `run`, beside --shard and --out: configuration and overrides
	Name      string        // of the suite
	Out       string        // absolute
	Shards    int           // how many
	Time      time.Duration // limit of a shard
	Partition string        // empty: the cluster's default, as the fields below
	Account   string
	QOS       string
	GRES      string // such as gpu:1
	CPUs      int    // of a shard
	Memory    string // of a shard, such as 4G
	Signal    time.Duration
	Extra     []string // further options of sbatch
}

//go:embed shard.sbatch.tmpl
var shardScript string

//go:embed merge.sbatch.tmpl
var mergeScript string

var scripts = template.Must(template.New("").Funcs(template.FuncMap{"quote": quote, "join": join, "limit": limit, "seconds": func(d time.Duration) int { return int(d.Seconds()) }}).
	Parse(`{{define "shard"}}` + shardScript + `{{end}}{{define "merge"}}` + mergeScript + `{{end}}`))

// quote makes a word of a shell's command.
func quote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-+=./:,@%") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func join(words []string) string {
	var out []string
	for _, w := range words {
		out = append(out, quote(w))
	}
	return strings.Join(out, " ")
}

// limit is a duration as Slurm writes it, in whole minutes, rounded up.
func limit(d time.Duration) string {
	minutes := int((d + time.Minute - 1) / time.Minute)
	return fmt.Sprintf("%d-%02d:%02d:00", minutes/1440, minutes/60%24, minutes%60)
}

// Script returns the text of the array's script, or of the job's that merges.
func (s Submission) Script(merge bool) (string, error) {
	for _, v := range append([]string{s.Program, s.Name, s.Out, s.Partition, s.Account, s.QOS, s.GRES, s.Memory}, append(s.Arguments, s.Extra...)...) {
		if strings.ContainsAny(v, "\n\r\x00") {
			return "", fmt.Errorf("submit: %q cannot stand in a script", v)
		}
	}
	if strings.ContainsAny(s.Out, `"\\`) {
		return "", fmt.Errorf("submit: --out %q: quotes and backslashes cannot stand in Slurm's options", s.Out)
	}
	name := "shard"
	if merge {
		name = "merge"
	}
	var b bytes.Buffer
	err := scripts.ExecuteTemplate(&b, name, s)
	return b.String(), err
}

// JobName is the array's name in the queue.
func (s Submission) JobName() string {
	return "ci-" + strings.Map(func(r rune) rune {
		if strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.", r) {
			return r
		}
		return '-'
	}, s.Name)
}

// Folder is where scripts and logs of the jobs lie.
func (s Submission) Folder() string { return filepath.Join(s.Out, "slurm") }

// Logs is Folder as it stands between quotes in an option of sbatch, where % begins a pattern.
func (s Submission) Logs() string { return strings.ReplaceAll(s.Folder(), "%", "%%") }

// missing lists the shards, by number, that are not finished.
func (s Submission) missing() ([]int, error) {
	done := map[int]bool{}
	if _, err := os.Stat(filepath.Join(s.Out, "shards")); err == nil {
		all, err := experiments.StatusOf(s.Out)
		if err != nil {
			return nil, err
		}
		for _, st := range all {
			switch {
			case st.Shard.Of != s.Shards && st.Shard.Of != 0 && st.Begun:
				return nil, fmt.Errorf("submit: %s holds shards of %d already: submit with --shards %d, or into another --out", s.Out, st.Shard.Of, st.Shard.Of)
			case st.Suite == s.Name && st.Finished():
				done[st.Shard.Index] = true
			}
		}
	}
	var out []int
	for i := 1; i <= s.Shards; i++ {
		if !done[i] {
			out = append(out, i)
		}
	}
	return out, nil
}

// Submit writes the scripts below Folder and hands them to sbatch: an array of the shards that are
// missing, and a job after it that merges and writes the report. It prints the numbers of the jobs.
func (s Submission) Submit(w io.Writer) error {
	missing, err := s.missing()
	if err != nil {
		return err
	}
	sbatch, err := exec.LookPath("sbatch")
	if err != nil {
		return errors.New("submit: sbatch is not on PATH: type this on a machine of the cluster, or --print the scripts")
	}
	if err := os.MkdirAll(s.Folder(), 0o755); err != nil {
		return fmt.Errorf("submit: %w", err)
	}
	path := map[bool]string{false: filepath.Join(s.Folder(), "shard.sbatch"), true: filepath.Join(s.Folder(), "merge.sbatch")}
	for merge, p := range path {
		text, err := s.Script(merge)
		if err == nil {
			err = files.WriteAtomic(p, func(w io.Writer) error { _, err := io.WriteString(w, text); return err })
		}
		if err != nil {
			return err
		}
	}
	after := []string{}
	if len(missing) > 0 {
		id, err := submitted(sbatch, "--parsable", "--array="+numbers(missing), path[false])
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "submitted %s: %d of %d shards\n", id, len(missing), s.Shards)
		after = append(after, "--dependency=afterany:"+id)
	} else {
		fmt.Fprintf(w, "all %d shards are finished\n", s.Shards)
	}
	id, err := submitted(sbatch, append(append([]string{"--parsable"}, after...), path[true])...)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "submitted %s: merges the shards and writes the report\nhow far they are: clip-inspector status %s\n", id, quote(s.Out))
	return err
}

// submitted runs sbatch and returns the number of the job.
func submitted(sbatch string, args ...string) (string, error) {
	var out, said bytes.Buffer
	c := exec.Command(sbatch, args...)
	c.Stdout, c.Stderr = &out, &said
	if err := c.Run(); err != nil {
		return "", fmt.Errorf("submit: sbatch %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(said.String()))
	}
	id, _, _ := strings.Cut(strings.TrimSpace(out.String()), ";")
	return id, nil
}

// numbers writes numbers as Slurm's --array takes them: 1-3,7.
func numbers(n []int) string { return experiments.Ranges(n) }

// Requeue is RequeueStatus, for the script.
func (Submission) Requeue() int { return RequeueStatus }

package cluster_test

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"clipinspector/cmd"
	"clipinspector/experiments/cluster"
)

// programVariable makes the test's own program be clip-inspector: in the jobs, too, which inherit
// the environment.
const programVariable = "CLUSTER_TEST_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(programVariable) != "" {
		cmd.Execute()
	}
	os.Exit(m.Run())
}

const suite = `name: two-sets
seeds: [1, 2]
clip: builtin:mini
datasets: [{name: mini-pets, classes: 5}, {name: mini-eurosat, classes: 5}]
learner: {name: coop, context: 4}
attacks: [clean, badnets]
detectors: [{name: ci, optimise: 32, measure: 16}]
shots: 2
`

// slurm is a Slurm of this test's own.
type slurm struct {
	t        *testing.T
	conf     string
	patience time.Duration
}

func startSlurm(t *testing.T) slurm {
	t.Helper()
	if testing.Short() {
		t.Skip("starts a Slurm: skipped with -short")
	}
	dir := t.TempDir()
	up := exec.Command("./slurm.sh", "up", dir, "2")
	out, err := up.CombinedOutput()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 2 {
		t.Skipf("no Slurm here: %s", bytes.TrimSpace(out))
	}
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	t.Cleanup(func() {
		if out, err := exec.Command("./slurm.sh", "down", dir).CombinedOutput(); err != nil {
			t.Errorf("stopping Slurm: %v: %s", err, out)
		}
	})
	return slurm{t, filepath.Join(dir, "slurm.conf"), 5 * time.Minute}
}

// run runs a command of Slurm or clip-inspector and returns what it printed.
func (s slurm) run(name string, args ...string) string {
	s.t.Helper()
	out, err := s.try(name, args...)
	if err != nil {
		s.t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return out
}

func (s slurm) try(name string, args ...string) (string, error) {
	c := exec.Command(name, args...)
	c.Env = append(os.Environ(), "SLURM_CONF="+s.conf, programVariable+"=1")
	out, err := c.CombinedOutput()
	return string(out), err
}

// wait asks until the answer is yes.
func (s slurm) wait(what string, until func() bool) {
	s.t.Helper()
	deadline := time.Now().Add(s.patience)
	for !until() {
		if time.Now().After(deadline) {
			s.t.Fatalf("waited %s in vain: %s\n%s", s.patience, what, s.run("squeue"))
		}
		time.Sleep(s.patience / 1500)
	}
}

// tasks are the tasks of a job in a state, such as 12_3.
func (s slurm) tasks(job, state string) []string {
	return strings.Fields(s.run("squeue", "-h", "-j", job, "-t", state, "-r", "-o", "%i"))
}

// ended counts the tasks of a job that will not run again.
func (s slurm) ended(job string) int {
	return len(s.tasks(job, "COMPLETED,CANCELLED,FAILED,TIMEOUT,NODE_FAIL,OUT_OF_MEMORY"))
}

// A suite in four shards, of which one is cancelled, one is told that its time is up, and one of
// whose nodes goes away meanwhile, has the bytes of one run.
func TestSlurm(t *testing.T) {
	s := startSlurm(t)
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	config, whole, out := filepath.Join(dir, "a suite.yaml"), filepath.Join(dir, "whole"), filepath.Join(dir, "cut here")
	if err := os.WriteFile(config, []byte(suite), 0o644); err != nil {
		t.Fatal(err)
	}
	s.run(program, "run", config, "--out", whole)
	submit := func() string {
		said := s.run(program, "submit", config, "--slurm", "--shards", "4", "--out", out, "--time", "10m", "--mem", "100M")
		t.Log(said)
		job, _, _ := strings.Cut(strings.TrimPrefix(said, "submitted "), ":")
		return job
	}
	t.Cleanup(func() {
		if !t.Failed() {
			return
		}
		logs, _ := filepath.Glob(filepath.Join(out, "slurm", "*.log")) // the pattern is well formed
		for _, log := range logs {
			text, err := os.ReadFile(log)
			t.Logf("%s: %v\n%s", filepath.Base(log), err, text)
		}
	})
	job := submit()
	s.wait("two shards run", func() bool { return len(s.tasks(job, "RUNNING")) == 2 })
	running := s.tasks(job, "RUNNING")
	s.run("scancel", running[0])
	s.wait("the other has begun", func() bool { // a script that is told sooner does not listen yet, and is killed
		text, err := os.ReadFile(filepath.Join(out, "slurm", running[1]+".log"))
		return err == nil && bytes.Contains(text, []byte("suite two-sets"))
	})
	s.wait("the signal is sent", func() bool { // "can not be altered now" while the job is being started
		_, err := s.try("scancel", "--batch", "--signal=USR1", running[1])         // what Slurm sends before the time limit
		return err == nil || !slices.Contains(s.tasks(job, "RUNNING"), running[1]) // sent, and queued again, though scancel complains
	})
	s.run("scontrol", "update", "NodeName=n2", "State=DRAIN", "Reason=test")
	requeued := false
	s.wait("the array ends", func() bool {
		for _, task := range s.tasks(job, "PENDING") {
			if strings.Contains(s.run("squeue", "-h", "-j", task, "-r", "-o", "%r"), "BeginTime") { // a requeued job waits for two minutes
				requeued = true
				s.run("scontrol", "update", "JobId="+task, "StartTime=now")
			}
		}
		return len(s.tasks(job, "all")) == s.ended(job)
	})
	if !requeued {
		t.Error("the shard whose time was up is not queued again")
	}
	s.run("scontrol", "update", "NodeName=n2", "State=RESUME")
	if status := s.run(program, "status", out); !strings.Contains(status, "3 of 4 finished") {
		t.Errorf("with one shard cancelled the status is\n%s\nwant 3 of 4 finished", status)
	}
	s.wait("the first merge ends", func() bool { return s.run("squeue", "-h") == "" })
	if text, err := s.try(program, "merge", out); err == nil || !strings.Contains(text, "partial: ") {
		t.Errorf("a merge without the cancelled shard: %v, %s, want a partial one that says so", err, text)
	}
	submit() // what is missing
	s.wait("all jobs end", func() bool { return s.run("squeue", "-h") == "" })
	got, want := s.run(program, "export", "--out", out), s.run(program, "export", "--out", whole)
	if got != want {
		t.Errorf("the merged export of %d bytes is not the undivided run's of %d", len(got), len(want))
	}
	if strings.Count(want, `"state":"finished"`) != 16 {
		t.Errorf("the undivided run has not finished 16 cells:\n%s", want)
	}
}

func TestScriptsSayWhatWasAsked(t *testing.T) {
	s := cluster.Submission{Program: "/opt/clip inspector", Arguments: []string{"/conf'igs/a.yaml", "--set", "seeds=[1,2]"}, Name: "a suite", Out: "/out put", Shards: 7,
		Time: 90*time.Minute + time.Second, Partition: "gpus", GRES: "gpu:1", CPUs: 3, Memory: "2G", Signal: time.Minute, Extra: []string{"--constraint=a100"}}
	text, err := s.Script(false)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"#SBATCH --time=0-01:31:00\n", "#SBATCH --partition=gpus\n", "#SBATCH --gres=gpu:1\n", "#SBATCH --constraint=a100\n",
		"#SBATCH --signal=B:USR1@60\n", "#SBATCH --cpus-per-task=3\n", `'/opt/clip inspector' run '/conf'\''igs/a.yaml' --set 'seeds=[1,2]' --out '/out put'`,
		`--shard "$SLURM_ARRAY_TASK_ID/7" --threads 3`} {
		if !strings.Contains(text, want) {
			t.Errorf("the script has no %q:\n%s", want, text)
		}
	}
	if strings.Contains(text, "--account") || strings.Contains(text, "--qos") {
		t.Errorf("the script says what was not asked:\n%s", text)
	}
	if c := exec.Command("bash", "-n"); true {
		c.Stdin = strings.NewReader(text)
		if out, err := c.CombinedOutput(); err != nil {
			t.Errorf("bash does not read the script: %v: %s", err, out)
		}
	}
	s.Extra = []string{"--comment=x\n rm -rf /"}
	if _, err := s.Script(false); err == nil {
		t.Error("an option of two lines is written into the script")
	}
}

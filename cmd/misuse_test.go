package cmd

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Misuse has one exit status in all verbs: unknown flags, numbers that are none or below what makes
// sense, names of a flag's list that are not in it.
func TestMisuseHasOneStatus(t *testing.T) {
	t.Chdir(t.TempDir())
	misuses := [][]string{
		{"nothing"}, {"list", "nothing"}, {"run", "--shard", "3"}, {"run", "--shard", "4/3"}, {"run", "--precision", "fp8"}, {"table", "--device", "cpu,cpu"},
		{"submit"}, {"table", "--format", "xml"}, {"table", "--rows", "xml"}, {"table", "--rows", "models", "--format", "csv"}, {"compare", "a", "b", "--format", "xml"},
		{"inspect", "--checkpoint", "a", "--ood", "b", "--detector", "none"}, {"inspect", "--checkpoint", "a", "--ood", "b", "--learner", "none"},
		{"inspect", "--checkpoint", "a", "--ood", "b", "--class-position", "left"}, {"export", "--checkpoint", "a", "--to", "b", "--learner", "none"},
	}
	var walk func(c *cobra.Command, path []string)
	walk = func(c *cobra.Command, path []string) {
		for _, verb := range c.Commands() {
			walk(verb, append(path[:len(path):len(path)], verb.Name()))
		}
		if len(path) == 0 || path[0] == "completion" || path[0] == "help" {
			return
		}
		misuses = append(misuses, append(path[:len(path):len(path)], "--what"))
		c.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Value.Type() == "int" {
				for _, value := range []string{"-1", "1.5", "many", ""} {
					misuses = append(misuses, append(path[:len(path):len(path)], "--"+f.Name, value))
				}
			}
		})
	}
	walk(Command(), nil)
	if len(misuses) < 80 {
		t.Errorf("%d misuses were found", len(misuses))
	}
	for _, args := range misuses {
		if text, err := execute(t, args...); status(err) != statusMisused {
			t.Errorf("%q: status %d (%v), want %d\n%s", args, status(err), err, statusMisused, text)
		}
	}
}

// With too little memory the program says so in one line and ends, before Go's runtime aborts with
// a status that is a verdict.
func TestTooLittleMemory(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, limit := range []string{"-v 120000", "-v 400000", "-v 1000000", "-v 2000000", "-d 100000", "-d 400000"} {
		c := exec.Command("bash", "-c", "ulimit "+limit+` && exec "$0" list attacks`, self)
		c.Env = append(os.Environ(), asCommand+"=1")
		out, _ := c.CombinedOutput()
		line := string(out)
		if code := c.ProcessState.ExitCode(); code != inspectFailed || strings.Count(line, "\n") != 1 || !strings.Contains(line, "raise the limit (ulimit "+limit[:2]+")") {
			t.Errorf("ulimit %s: status %d and %q, want %d and one line", limit, code, line, inspectFailed)
		}
	}
}

// Package cmd is the command clip-inspector. A program of your own may import it, and beside it
// packages that register attacks, detectors or learners. With Execute it is clip-inspector with
// these.
package cmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"clipinspector/engine/cuda"
	"clipinspector/experiments/audit"
	"clipinspector/experiments/cluster"
	"clipinspector/experiments/world"
	"clipinspector/internal/printable"
	"clipinspector/internal/progress"
	"clipinspector/plugin"

	_ "clipinspector/baselines"
)

// Exit statuses beside 0.
const (
	statusFailed      = 1
	statusNoDevice    = 3
	statusMisused     = 64 // sysexits.h: EX_USAGE
	statusRequeue     = cluster.RequeueStatus
	statusInterrupted = 130
)

// errInterrupted is why a command ended that was told to stop.
var errInterrupted = errors.New("stopped")

// errRequeue is why a command ended that a batch system told to stop before its time is up.
var errRequeue = errors.New("stopped by SIGUSR1; queue the same command again to go on")

// progresses are the ways of --progress.
var progresses = []string{"text", "json", "none"}

// flags are what all verbs share.
type flags struct {
	device    string
	precision string
	threads   int
	progress  string
}

// report is where progress goes; nil for nowhere.
func (f *flags) report() io.Writer {
	switch f.progress {
	case "none":
		return nil
	case "json":
		return progress.NewEvents(os.Stderr)
	}
	return os.Stderr
}

// choose puts the precision into the device's name, and hands a GPU to the build that can open one.
func (f *flags) choose() error {
	if f.precision != "" {
		f.device += "/" + f.precision
	}
	name, _, err := world.SplitDevice(f.device)
	if err != nil {
		return misuse{err}
	}
	if name == "cpu" {
		return nil
	}
	n, err := cuda.ParseDevice(name)
	if err != nil {
		return err
	}
	return cuda.HandOver(n)
}

// leasing are the verbs that give back what they have leased when they are stopped: they look after
// each step. All others write files whole at the end or not at all, so that they can end at any
// moment; they are given patience to end by themselves.
var leasing = []string{"run", "calibrate", "merge", "tune", "pretrain"}

const patience = 800 * time.Millisecond

// Execute runs the command with the arguments of the process, and ends the process with its exit
// status.
func Execute() {
	c, out := Command(), &output{to: os.Stdout}
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM, syscall.SIGUSR1)
	go func() {
		why, s := errInterrupted, <-signals
		verb, _, err := c.Find(os.Args[1:])
		leases := err == nil && slices.Contains(leasing, verb.Name())
		switch {
		case s == syscall.SIGUSR1:
			why = errRequeue
		case leases:
			why = fmt.Errorf("%w; start the same command again to go on", errInterrupted)
		}
		givenBack := ""
		if leases {
			givenBack = ": what is under way is given back"
		}
		fmt.Fprintf(os.Stderr, "\nstopping%s (again to end at once)\n", givenBack)
		signal.Stop(signals) // the next one ends the process
		cancel(why)
		if !leases {
			time.Sleep(patience)
			os.Exit(status(why))
		}
	}()
	c.SetOut(out)
	verb, err := c.ExecuteContextC(ctx)
	plugin.Close()
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err == nil && out.err != nil {
		if err = fmt.Errorf("writing to the standard output: %w", out.err); verb.Name() == "inspect" {
			err = failedInspection{err}
		}
	}
	if v := (verdict{}); err != nil && !errors.As(err, &v) { // a verdict is printed already
		fmt.Fprintln(os.Stderr, "clip-inspector:", printable.Lines(err.Error()))
	}
	os.Exit(status(err))
}

// output keeps the first error of writing, which most that print do not look at.
type output struct {
	to  io.Writer
	err error
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	n, err := o.to.Write(p)
	if o.err == nil {
		o.err = err
	}
	return n, err
}

// misuse is a command line that asks for nothing that can be done.
type misuse struct{ error }

func misused(format string, args ...any) error { return misuse{fmt.Errorf(format, args...)} }

// oneOf tells misuse of a flag whose value is none of a list.
func oneOf(flag, value string, known []string) error {
	if slices.Contains(known, value) {
		return nil
	}
	return misused("--%s %.40q: want one of %s", flag, value, strings.Join(known, ", "))
}

// strict makes every verb below c say misuse of what does not fit its flags and arguments.
func strict(c *cobra.Command) {
	if args := c.Args; args != nil {
		c.Args = func(c *cobra.Command, given []string) error {
			if err := args(c, given); err != nil {
				return misused("%w; see `%s --help`", err, c.CommandPath())
			}
			return nil
		}
	}
	for _, verb := range c.Commands() {
		strict(verb)
	}
}

// version is what the build says of itself: the module's version, the revision, and whether it was
// changed since.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	text := info.Main.Version
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			text += ", revision " + s.Value
		case s.Key == "vcs.time":
			text += " of " + s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			text += ", changed since"
		}
	}
	return text + ", " + info.GoVersion
}

// names completes a flag by a list of names.
func names(of func() []string) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return of(), cobra.ShellCompDirectiveNoFileComp
	}
}

// complete adds the completion of a flag that the verb has.
func complete(c *cobra.Command, flag string, of func() []string) {
	if err := c.RegisterFlagCompletionFunc(flag, names(of)); err != nil {
		panic(err) // no such flag: a fault of the program
	}
}

func status(err error) int {
	var v verdict
	var failed failedInspection
	var wrong misuse
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errInterrupted):
		return statusInterrupted
	case errors.Is(err, errRequeue):
		return statusRequeue
	case errors.As(err, &wrong):
		return statusMisused
	case errors.As(err, &failed):
		return inspectFailed
	case errors.As(err, &v) && v.decision == audit.DecisionBackdoored:
		return inspectBackdoored
	case errors.As(err, &v):
		return inspectUnclear
	case errors.Is(err, world.ErrNoDevice):
		return statusNoDevice
	}
	return statusFailed
}

// Command is the command with all its verbs, for programs that run it or write pages about it.
func Command() *cobra.Command {
	var f flags
	c := &cobra.Command{
		Use:   "clip-inspector",
		Short: "Find backdoors in prompt-tuned CLIP models",
		Long: `clip-inspector reproduces and extends CLIP-Inspector (arXiv 2604.09101). It makes clean and
backdoored prompt-tuned CLIP models. Detectors look for the backdoors. It says how well each
detector does, with intervals.

  clip-inspector run                        the mini grid: 50 models, four detectors; resumable
  clip-inspector table --out runs/mini      its tables
  clip-inspector plot --out runs/mini       its pictures
  clip-inspector view                       runs and audits in the browser, live
  clip-inspector inspect --checkpoint F ... is a delivered model backdoored?
  clip-inspector repair --checkpoint F ...  the same model without its backdoor
  clip-inspector list attacks               what a suite can name, with settings and defaults
  clip-inspector doctor                     what this machine has, and what is missing`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version(),
		Args:          cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.Help()
			}
			text := fmt.Sprintf("unknown verb %.40q", args[0])
			if near := c.SuggestionsFor(args[0]); len(near) > 0 {
				text += ": did you mean " + strings.Join(near, " or ") + "?"
			}
			return misused("%s See `clip-inspector --help`", text)
		},
	}
	c.SetVersionTemplate("clip-inspector {{.Version}}\n")
	c.SetFlagErrorFunc(func(c *cobra.Command, err error) error { return misused("%w; see `%s --help`", err, c.CommandPath()) })
	c.PersistentFlags().StringVar(&f.device, "device", "cpu", "device to compute on: cpu or cuda:N; run takes several (cuda:0,cuda:1), a process for each")
	c.PersistentFlags().StringVar(&f.precision, "precision", "", "precision of a GPU's matrix products: fp32, tf32 (default) or bf16")
	c.PersistentPreRunE = func(verb *cobra.Command, _ []string) error {
		if err := oneOf("progress", f.progress, progresses); err != nil {
			return err
		}
		if f.devices() != nil {
			if verb.Name() != "run" {
				return misused("--device %s: only run takes several devices", f.device)
			}
			return nil // each process chooses its own
		}
		return f.choose()
	}
	counted(c.PersistentFlags(), &f.threads, "threads", 0, 0, "number of threads (default: all cores); no result depends on it")
	c.PersistentFlags().StringVar(&f.progress, "progress", "text", "progress on the standard error: text, none, or json (an object a line, for other programs)")
	c.AddCommand(compareCommand(), calibrateCommand(&f), mergeCommand(), statusCommand(), submitCommand(&f))
	c.AddCommand(runCommand(&f), tuneCommand(&f), tableCommand(), plotCommand(), reportCommand(), viewCommand(), exportCommand(), listCommand(), datasetsCommand(), pretrainCommand(&f),
		benchCommand(&f), doctorCommand(), inspectCommand(&f), verifyCommand(), repairCommand(&f), encoderCommand(), manCommand())
	complete(c, "progress", func() []string { return progresses })
	complete(c, "device", func() []string { return []string{"cpu", "cuda:0"} })
	complete(c, "precision", func() []string { return []string{"fp32", "tf32", "bf16"} })
	strict(c)
	return c
}

// sets adds the flag --set to a verb.
func sets(c *cobra.Command) *[]string {
	return c.Flags().StringArray("set", nil, "override a setting of the suite, PATH=VALUE with VALUE in YAML; may be repeated")
}

package cmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"

	"golang.org/x/sync/errgroup"
)

// devices are the devices of --device, where it names several.
func (f *flags) devices() []string {
	if !strings.Contains(f.device, ",") {
		return nil
	}
	return strings.Split(f.device, ",")
}

// onEach starts this command once more for each device, on one store: the workers share its cells.
// What the first says is shown, of the others what they say when they fail.
func (f *flags) onEach(ctx context.Context, arguments []string, out io.Writer) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for i, device := range f.devices() {
		args := append(append([]string{}, withoutFlag(arguments, "device")...), "--device", device)
		if f.threads > 0 {
			args = append(withoutFlag(args, "threads"), "--threads", fmt.Sprint(max(1, f.threads/len(f.devices()))))
		}
		c := exec.CommandContext(ctx, program, args...)
		c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
		var said bytes.Buffer
		c.Stderr = &said
		if i == 0 {
			c.Stdout, c.Stderr = out, os.Stderr
		}
		group.Go(func() error {
			err := c.Run()
			var exit *exec.ExitError
			if errors.As(err, &exit) && i == 0 {
				return fmt.Errorf("on %s: exit status %d: see above", device, exit.ExitCode())
			}
			if err != nil {
				return fmt.Errorf("on %s: %w: %s", device, err, lastLine(said.String()))
			}
			return nil
		})
	}
	return group.Wait()
}

func lastLine(s string) string {
	lines := strings.Split(strings.TrimSpace(s), "\n")
	return lines[len(lines)-1]
}

// withoutFlag is a command line without a flag and its value.
func withoutFlag(args []string, name string) (out []string) {
	for i := 0; i < len(args); i++ {
		switch {
		case args[i] == "--"+name:
			i++
		case strings.HasPrefix(args[i], "--"+name+"="):
		default:
			out = append(out, args[i])
		}
	}
	return out
}

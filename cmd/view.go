package cmd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"clipinspector/results/web"
)

// viewPort is the port of the viewer where nobody names one.
const viewPort = 8478

func viewCommand() *cobra.Command {
	var port int
	var quiet bool
	c := &cobra.Command{
		Use:   "view [DIR...]",
		Short: "Show runs and audits in the browser, live while they run",
		Long: `view serves pages about the suites and audits below the folders DIR, by default below runs: an
overview, every model, comparisons. While a suite runs they show its progress. Only this machine
can read the pages (127.0.0.1). They need no network, and change nothing. End it with Ctrl-C.`,
		Example: `  clip-inspector view
  clip-inspector view runs/mini runs/inspect --port 9000 --no-open`,
		RunE: func(c *cobra.Command, args []string) error {
			for _, folder := range args {
				if info, err := os.Stat(folder); err != nil || !info.IsDir() {
					return fmt.Errorf("view %s: there is no such folder: run a suite first, or name where its --out lies", folder)
				}
			}
			if len(args) == 0 {
				args = []string{"runs"} // which may be made later
			}
			l, err := listen(port, c.Flags().Changed("port"))
			if err != nil {
				return err
			}
			port := l.Addr().(*net.TCPAddr).Port
			address := fmt.Sprintf("http://127.0.0.1:%d/", port)
			fmt.Fprintf(c.OutOrStdout(), "%s shows what lies in %s; end it with Ctrl-C\n", address, strings.Join(args, ", "))
			if !quiet {
				openBrowser(address)
			}
			return serve(c.Context(), l, web.Handler(newLibrary(c.ErrOrStderr(), args), port))
		},
	}
	counted(c.Flags(), &port, "port", 0, viewPort, "port of 127.0.0.1; if you do not name one and it is taken, another is used; 0 for any")
	c.Flags().BoolVar(&quiet, "no-open", false, "do not open a browser")
	return c
}

// listen opens a port of this machine's own address: another one where it is taken, unless it was
// asked for.
func listen(port int, asked bool) (net.Listener, error) {
	at := func(port int) (net.Listener, error) { return net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", port)) }
	l, err := at(port)
	if err != nil && !asked && errors.Is(err, syscall.EADDRINUSE) {
		l, err = at(0)
	}
	if err != nil {
		return nil, fmt.Errorf("opening port %d for the viewer: %w: name another by --port", port, err)
	}
	return l, nil
}

// serve answers until ctx ends. Slow and large requests are cut off.
func serve(ctx context.Context, l net.Listener, h http.Handler) error {
	server := &http.Server{Handler: h, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, MaxHeaderBytes: 64 << 10}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(l) }()
	select {
	case err := <-ended:
		return fmt.Errorf("serving the viewer: %w", err)
	case <-ctx.Done():
		return server.Close()
	}
}

// openBrowser shows an address in the user's browser where there is a screen; who has none reads
// the address.
func openBrowser(address string) {
	program := "xdg-open"
	if runtime.GOOS == "darwin" {
		program = "open"
	} else if os.Getenv("DISPLAY") == "" && os.Getenv("WAYLAND_DISPLAY") == "" {
		return
	}
	c := exec.Command(program, address)
	if c.Start() == nil {
		go func() { _ = c.Wait() }() // whatever became of it, the address is printed
	}
}

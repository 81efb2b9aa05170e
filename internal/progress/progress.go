// Package progress shows how far work is: bars on a terminal, lines elsewhere, or JSON objects for
// other programs.
package progress

import (
	"fmt"
	"io"
	"os"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// newBar is a progress bar of a thousand parts; nil where w is no terminal.
func NewBar(w io.Writer, more ...progressbar.Option) *progressbar.ProgressBar {
	f, ok := w.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil
	}
	return progressbar.NewOptions(1000, append(more, progressbar.OptionSetWriter(w), progressbar.OptionSetWidth(30),
		progressbar.OptionSetElapsedTime(false), progressbar.OptionClearOnFinish())...)
}

// showProgress shows how far one task has come: a bar on a terminal, a line at each quarter
// elsewhere; nothing for nil. end takes the bar away.
func Show(w io.Writer, what string) (step func(done, total int), end func()) {
	if w == nil {
		return func(int, int) {}, func() {}
	}
	if e, ok := w.(*Events); ok {
		return func(done, total int) { e.Tell(Event{What: what, Done: done, Total: total}) }, func() {}
	}
	if bar := NewBar(w, progressbar.OptionSetDescription(what)); bar != nil {
		// Errors of a terminal that is gone have nobody to be told to.
		return func(done, total int) { _ = bar.Set(min(999, 1000*done/max(1, total))) }, func() { _ = bar.Finish() }
	}
	said := 0
	return func(done, total int) {
		if quarter := 4 * done / max(1, total); quarter > said {
			said = quarter
			fmt.Fprintf(w, "%3d %%  %s\n", 25*quarter, what)
		}
	}, func() {}
}

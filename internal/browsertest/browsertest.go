// Package browsertest opens pages in a real browser for tests.
package browsertest

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// Browser is a browser of a test, which ends with it.
type Browser struct {
	t   testing.TB
	ctx context.Context
}

// Start starts a browser. Without one on the machine the test is skipped.
func Start(t testing.TB) *Browser {
	t.Helper()
	program := ""
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			program = path
			break
		}
	}
	if program == "" {
		t.Skip("no browser: apt-get install chromium")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(program), chromedp.NoSandbox, chromedp.WSURLReadTimeout(time.Minute))
	ctx, end := chromedp.NewExecAllocator(context.Background(), options...)
	t.Cleanup(end)
	ctx, end = chromedp.NewContext(ctx)
	t.Cleanup(end)
	if err := chromedp.Run(ctx); err != nil {
		t.Fatalf("starting %s: %v", program, err)
	}
	return &Browser{t, ctx}
}

// Tab is a page in a window of its own.
type Tab struct {
	t   testing.TB
	ctx context.Context
}

// Open opens an address in a window of the given width, for a reader who prefers the colour scheme
// "light" or "dark".
func (b *Browser) Open(address string, width int, scheme string) *Tab {
	b.t.Helper()
	ctx, end := chromedp.NewContext(b.ctx)
	b.t.Cleanup(end)
	ctx, end = context.WithTimeout(ctx, 2*time.Minute)
	b.t.Cleanup(end)
	tab := &Tab{b.t, ctx}
	tab.Do(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}),
		chromedp.EmulateViewport(int64(width), 900))
	tab.Go(address)
	return tab
}

// Go opens an address.
func (p *Tab) Go(address string) {
	p.t.Helper()
	p.Do(chromedp.Navigate(address))
}

// Do takes actions.
func (p *Tab) Do(actions ...chromedp.Action) {
	p.t.Helper()
	if err := chromedp.Run(p.ctx, actions...); err != nil {
		p.t.Fatal(err)
	}
}

// Value is what a script of the test, which may wait for a promise, comes to on the page.
func Value[T any](p *Tab, script string) (v T) {
	p.t.Helper()
	p.Do(chromedp.Evaluate(script, &v, func(e *runtime.EvaluateParams) *runtime.EvaluateParams { return e.WithAwaitPromise(true) }))
	return v
}

// Until waits until a script's condition holds on the page.
func (p *Tab) Until(condition string) {
	p.t.Helper()
	for deadline := time.Now().Add(time.Minute); !Value[bool](p, condition); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("the page never came to: %s", condition)
		}
	}
}

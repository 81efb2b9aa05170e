package web

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	cdp "github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"clipinspector/internal/browsertest"
	"clipinspector/results/store"
)

// texts is a script that lists a column's texts of the rows of a table that are shown.
func texts(table, i string) string {
	return `[...document.querySelectorAll("#` + table + ` tbody tr")].map(r => r.cells[` + i + `].textContent.trim())`
}

// Everything that a reader does in a browser, on a server and in a report.
func TestPagesInABrowser(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a browser")
	}
	b := browsertest.Start(t)
	suite := made(5, named)
	bad := made(2, evilNames)
	bad.Run, bad.Rows.Suite.Name = "runs/bad", "bad"
	base := serve(t, &memory{suites: []*Suite{suite, bad}, audits: []*Audit{audited()}})
	address := base + "/suite?run=runs%2Fmade&suite=made"
	report := func(s *Suite) string {
		t.Helper()
		var text bytes.Buffer
		path := filepath.Join(t.TempDir(), "report.html")
		if err := Report(t.Context(), &text, []*Suite{s}); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, text.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
		return "file://" + path
	}
	pages := map[string]string{"runs": base + "/", "suite": address, "model": base + "/model?run=runs%2Fmade&suite=made&key=000000000003", "audit": base + "/audit?run=runs%2Faudit",
		"compare": base + "/compare?a=runs%2Fmade%3A+made&by=detector", "figures": base + "/pictures?run=runs%2Fmade&suite=made", "evil": base + "/suite?run=runs%2Fbad",
		"evil model": base + "/model?run=runs%2Fbad&key=000000000001", "report": report(suite), "evil report": report(bad)}

	t.Run("sorting", func(t *testing.T) {
		for name, at := range map[string]string{"served": address, "report": pages["report"]} {
			p := b.Open(at, 1400, "light")
			head := `#models thead th[data-key=acc] > *`
			p.Do(chromedp.Click(head, chromedp.ByQuery))
			down := browsertest.Value[[]string](p, texts("models", "3"))
			for i := range down[1:] {
				if down[i] < down[i+1] {
					t.Errorf("%s: ACC %s before %s", name, down[i], down[i+1])
				}
			}
			// By keyboard.
			p.Do(chromedp.Focus(head, chromedp.ByQuery), chromedp.KeyEvent(kb.Enter))
			up := browsertest.Value[[]string](p, texts("models", "3"))
			if up[0] != down[len(down)-1] || browsertest.Value[string](p, `document.querySelector("#models th[data-key=acc]").ariaSort`) != "ascending" {
				t.Errorf("%s: Enter gives %v", name, up)
			}
			// What is sorted has an address, and the address sorts.
			link := browsertest.Value[string](p, `location.href`)
			again := b.Open(link, 1400, "light")
			if got := browsertest.Value[[]string](again, texts("models", "3")); strings.Join(got, " ") != strings.Join(up, " ") {
				t.Errorf("%s: %s shows %v, want %v", name, link, got, up)
			}
		}
	})
	t.Run("filtering", func(t *testing.T) {
		choose := func(name, value string) chromedp.Action {
			return chromedp.Evaluate(`(() => { const s = document.querySelector("form.filter select[name=`+name+`]"); s.value = "`+value+`"; s.dispatchEvent(new Event("change", { bubbles: true })); })()`, nil)
		}
		for name, at := range map[string]string{"served": address, "report": pages["report"]} {
			p := b.Open(at, 1400, "light")
			p.Do(choose("attack", "badnets"))
			p.Until(`document.querySelectorAll("#models tbody tr").length === 10`)
			p.Do(choose("verdict", "wrong"))
			p.Until(`document.querySelectorAll("#models tbody tr").length === 2`)
			link := browsertest.Value[string](p, `location.href`)
			again := b.Open(link, 1400, "light")
			if got := browsertest.Value[[]string](again, texts("models", "0")); len(got) != 2 || !strings.Contains(link, "attack=badnets") {
				t.Errorf("%s: %s shows %v", name, link, got)
			}
			if name == "served" { // the button back undoes a choice
				p.Do(chromedp.NavigateBack())
				p.Until(`document.querySelectorAll("#models tbody tr").length === 10`)
				p.Until(`document.querySelector("main .note").textContent === "Figures are of 10 of 20 models."`)
			}
		}
	})
	t.Run("a link within a report opens the model", func(t *testing.T) {
		p := b.Open(pages["report"], 1400, "light")
		p.Do(chromedp.Click(`#models tbody tr:nth-child(3) th a`, chromedp.ByQuery))
		p.Until(`document.querySelectorAll("details.page")[2].open && document.querySelector("#m-000000000002").checkVisibility()`)
	})
	t.Run("live", func(t *testing.T) {
		running := made(2, named)
		running.Run = "runs/live"
		running.Progress.Models = store.Counts{Planned: 8, Finished: 7, Pending: 1, Leased: 1}
		base := serve(t, &memory{suites: []*Suite{running}})
		p := b.Open(base+"/suite?run=runs%2Flive", 1400, "light")
		p.Do(chromedp.Evaluate(`document.querySelector("details[data-keep=yaml]").open = true; window.same = true`, nil))
		running.Progress.Models, running.Version = store.Counts{Planned: 8, Finished: 8}, "2"
		p.Until(`!document.querySelector("progress")`)
		if !browsertest.Value[bool](p, `window.same && document.querySelector("details[data-keep=yaml]").open && !document.querySelector("main").dataset.live`) {
			t.Error("the page was loaded anew, or forgot what was open")
		}
	})
	t.Run("widths and schemes", func(t *testing.T) {
		for name, at := range pages {
			for width, scheme := range map[int]string{390: "light", 2000: "dark"} {
				p := b.Open(at, width, scheme)
				if got := browsertest.Value[int](p, `document.documentElement.scrollWidth`); got > width {
					t.Errorf("%s is %d wide in a window of %d", name, got, width)
				}
				dark := browsertest.Value[bool](p, `getComputedStyle(document.body).backgroundColor.match(/\d+/g).every(x => x < 64)`)
				if dark != (scheme == "dark") {
					t.Errorf("%s: dark %v in the scheme %s", name, dark, scheme)
				}
				for _, check := range []string{contrast, accessible} {
					if got := browsertest.Value[[]string](p, check); len(got) > 0 {
						t.Errorf("%s, %s, %d wide: %v", name, scheme, width, got)
					}
				}
			}
		}
	})
	t.Run("injection", func(t *testing.T) {
		for _, name := range []string{"audit", "evil", "evil model", "evil report"} {
			p := b.Open(pages[name], 1400, "light")
			p.Do(chromedp.Evaluate(`for (const d of document.querySelectorAll("details")) d.open = true; for (const e of document.querySelectorAll("a,button,select,[tabindex]")) e.focus()`, nil))
			if browsertest.Value[bool](p, `"owned" in window || document.querySelectorAll("main img:not([src^='data:']):not([src^='/plot.svg']), main script, [onerror], [onfocus], a[href^=javascript]").length > 0`) {
				t.Errorf("%s: a name became more than text", name)
			}
			if strings.HasPrefix(name, "evil") && !browsertest.Value[bool](p, `document.querySelector("main").textContent.includes("<img src=x onerror=")`) {
				t.Errorf("%s: the name is not shown", name)
			}
		}
	})
	t.Run("print", func(t *testing.T) {
		for _, name := range []string{"suite", "audit", "report"} {
			p := b.Open(pages[name], 1400, "dark")
			var pdf []byte
			p.Do(chromedp.ActionFunc(func(ctx context.Context) (err error) {
				pdf, _, err = cdp.PrintToPDF().WithPrintBackground(true).Do(ctx)
				return err
			}))
			if !bytes.HasPrefix(pdf, []byte("%PDF")) || len(pdf) < 5000 {
				t.Errorf("%s prints as %d bytes", name, len(pdf))
			}
		}
	})
}

// A suite of 5,000 models is sorted within 200 ms, on a server and in a report.
func TestFiveThousandModelsSortAtOnce(t *testing.T) {
	if testing.Short() {
		t.Skip("starts a browser")
	}
	b := browsertest.Start(t)
	s := grid(10, 250, named)
	p := b.Open(serve(t, &memory{suites: []*Suite{s}})+"/suite?run=runs%2Fmade", 1400, "light")
	if got := browsertest.Value[string](p, `document.querySelector(".more").textContent`); got != "Show all 5000 rows" {
		t.Fatalf("the page says %q", got)
	}
	var took []float64
	for range 5 {
		took = append(took, browsertest.Value[float64](p, `new Promise(done => { const begun = performance.now(); document.querySelector("#models th[data-key=acc] > *").click();
			requestAnimationFrame(() => setTimeout(() => done(performance.now() - begun))); })`))
	}
	t.Logf("sorting 5,000 models until they are drawn: %.0f ms", took)
	if got := browsertest.Value[[]string](p, texts("models", "3")); len(got) != 100 || got[0] < got[99] {
		t.Errorf("%d rows are shown, ACC from %s to %s", len(got), got[0], got[len(got)-1])
	}
}

// accessible lists what a screen reader would miss.
const accessible = `[
	...[...document.querySelectorAll("img")].filter(e => !e.alt).map(e => "a picture without alt"),
	...[...document.querySelectorAll("table")].filter(e => !e.caption || !e.caption.textContent.trim()).map(e => "table " + e.id + " without a caption"),
	...[...document.querySelectorAll("th")].filter(e => !e.scope).map(e => "a head without scope"),
	...[...document.querySelectorAll("thead th")].filter(e => !e.ariaSort).map(e => "a column without aria-sort"),
	...[...document.querySelectorAll("select")].filter(e => !e.labels.length).map(e => "select " + e.name + " without a label"),
	...(document.documentElement.lang ? [] : ["no language"]), ...(document.querySelectorAll("h1").length ? [] : ["no heading"]),
	...[...document.querySelectorAll("[id]")].map(e => e.id).filter((id, i, all) => all.indexOf(id) !== i).map(id => "id " + id + " twice"),
]`

// contrast lists texts whose colour is too near to their background: WCAG's 4.5 to 1.
const contrast = `(() => {
	const parse = s => { const n = s.match(/[\d.]+/g).map(Number); if (s.startsWith("color(srgb")) return [255 * n[0], 255 * n[1], 255 * n[2], n[3] ?? 1]; return [n[0], n[1], n[2], n[3] ?? 1]; };
	const light = c => { const [r, g, b] = c.slice(0, 3).map(x => x / 255).map(x => x <= 0.03928 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
	const behind = e => { for (; e; e = e.parentElement) { const c = parse(getComputedStyle(e).backgroundColor); if (c[3] > 0) return c; } return [255, 255, 255, 1]; };
	const out = new Set();
	for (const e of document.querySelectorAll("h1,h2,p,dt,dd,th,td,a,button,label,select,summary,figcaption,li,pre,caption,span")) {
		if (!e.textContent.trim() || !e.checkVisibility() || e.closest(".sr")) continue;
		const a = light(parse(getComputedStyle(e).color)), b = light(behind(e));
		if ((Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05) < 4.5) out.add(e.tagName + "." + e.className + " " + getComputedStyle(e).color + " on " + behind(e));
	}
	return [...out].slice(0, 5);
})()`

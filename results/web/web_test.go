package web

import (
	"context"
	"encoding/json"
	"fmt"
	"image"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"clipinspector/results/plots"
	"clipinspector/results/stats"
	"clipinspector/results/store"
)

// memory is a source of suites and audits that a test made.
type memory struct {
	suites []*Suite
	audits []*Audit
}

func (m *memory) Runs() (out []Run) {
	for _, s := range m.suites {
		out = append(out, Run{Name: s.Run, Suites: []string{s.name()}})
	}
	for _, a := range m.audits {
		out = append(out, Run{Name: a.Run, Audit: true})
	}
	return out
}

func (m *memory) Suite(run, suite string) (*Suite, error) {
	for _, s := range m.suites {
		if s.Run == run && (suite == "" || s.name() == suite) {
			return s, nil
		}
	}
	return nil, fmt.Errorf("no run %q", run)
}

func (m *memory) Audit(run string) (*Audit, error) {
	for _, a := range m.audits {
		if a.Run == run {
			return a, nil
		}
	}
	return nil, fmt.Errorf("no run %q", run)
}

// evil are names that would do something if a page took them for more than text.
var evil = []string{
	`<img src=x onerror="window.owned=1">`,
	`"><script>window.owned=1</script>`,
	`</td></tr></table><script>window.owned=2</script>`,
	`' autofocus onfocus='window.owned=3`,
	`javascript:window.owned=4`,
	`{{.}}${window.owned=5}`,
	"turned \u202e around\x1b[31m",
}

// made is a suite of so many sets, with the attacks clean and badnets, the seeds 1 and 2 and two
// detectors: four models a set. "ci" is right but for every fifth model; "other" says backdoored
// always.
func made(sets int, name func(i int) string) *Suite { return grid(sets, 2, name) }

// grid is made, with any number of seeds.
func grid(sets, seeds int, name func(i int) string) *Suite {
	rows := &stats.Rows{Suite: store.Suite{Name: "made", YAML: "name: made # </pre><script>window.owned=6</script>", Created: time.Unix(1.7e9, 0),
		Settings: map[string]any{"file": "made.yaml", "set": []any{"seeds=[1, 2]"}}, Versions: map[string]string{"go": "1.24"}}}
	for i := range 2 * seeds * sets {
		attack := []string{"clean", "badnets"}[i%2]
		m := store.ModelRow{State: store.Finished, Cell: store.ModelCell{Key: fmt.Sprintf("%012d", i), Dataset: name(i / (2 * seeds)), Attack: attack, Learner: "coop", Seed: 1 + i/2%seeds,
			Order: i, Settings: map[string]any{"attack": map[string]any{"name": attack}, "note": evil[i%len(evil)]}}}
		m.Result = store.ModelResult{Target: -1, Classes: 3, ACC: float64(i*37%101) / 101, ASR: math.NaN(), PSNR: math.NaN(), SSIM: math.NaN(), Hash: "h", Path: "models/x"}
		if attack != "clean" {
			m.Result.Backdoored, m.Result.Target, m.Result.ASR = true, 1, 0.95
		}
		rows.Models = append(rows.Models, m)
		for j, detector := range []string{"ci", "other"} {
			index := float64(i*7919%1000) / 500
			d := store.DetectionRow{State: store.Finished, Cell: store.DetectionCell{Key: fmt.Sprintf("%012d-%d", i, j), ModelKey: m.Cell.Key, Detector: detector,
				Order: 2*i + j, Settings: map[string]any{"detector": map[string]any{"name": detector, "k": 2}}}}
			flagged := m.Result.Backdoored != (i%5 == 4)
			if flagged = flagged || j == 1; flagged {
				index += 2
			}
			d.Result = store.DetectionResult{Index: index, Backdoored: flagged, Suspect: 1, ImagePasses: 1000, Seconds: 1.5}
			for c := range 3 {
				d.Result.Classes = append(d.Result.Classes, store.ClassScore{Class: c, Loss: 0.1 * float64(c), ASR: 0.9, Score: 1, Index: index - float64(2*c), Norm: 1})
			}
			rows.Detections = append(rows.Detections, d)
			if j == 0 {
				x := store.ExplanationRow{State: store.Finished, Cell: store.ExplanationCell{DetectionKey: d.Cell.Key, Order: i}, Result: answers([]string{"none", "patch"}[i%2])}
				rows.Explanations = append(rows.Explanations, x)
			}
		}
	}
	n := len(rows.Models)
	s := &Suite{Run: "runs/made", Rows: rows, Version: "1", Command: func(m store.ModelRow) string { return "clip-inspector run made.yaml --set seeds=[1]" }}
	s.Progress.Models = store.Counts{Planned: n, Finished: n}
	s.Progress.Detections = store.Counts{Planned: 2 * n, Finished: 2 * n}
	s.Illustrate = func(_ context.Context, cases []plots.Case) error {
		for i := range cases {
			cases[i].Classes = evil[:3]
			cases[i].Trigger = image.NewNRGBA(image.Rect(0, 0, 8, 8))
			for j := range cases[i].Explained {
				x := &cases[i].Explained[j]
				x.Says, x.Unit, x.Trigger, x.Before, x.After = "a patch at the "+evil[2], "pixels", cases[i].Trigger, cases[i].Trigger, cases[i].Trigger
			}
		}
		return nil
	}
	return s
}

func named(i int) string { return fmt.Sprintf("set-%02d", i) }

func evilNames(i int) string { return evil[i%len(evil)] }

func audited() *Audit {
	return &Audit{Run: "runs/audit", Decision: "backdoored", Why: "p = 0.001 is below the level 0.0228", Index: 3.1, K: 2, Suspect: evil[0], SourceClass: evil[1], Detector: "separation",
		Checkpoint: "delivered", Pool: "pictures", Audited: AuditFile{"audited.safetensors", "00"}, Notes: evil, Twins: [][]string{evil[:2]},
		Classes:    []AuditClass{{evil[0], 3.1, 0.1, 0.2, 0.9, 1}, {"other", -1, 0.5, math.NaN(), 0.1, 1}},
		References: &AuditReferences{8, "shots", 0.9, 0.001, []float64{0.4, 0.07, 0}}, Settings: map[string]any{"epsilon": 0.03},
		Explanations: []Explanation{{Class: evil[0], Says: "a patch of about 8 x 8 pixels at the " + evil[1] + ", ASR 0.97", Unit: "pixels", Result: answers("patch"),
			Picture: []byte("no picture")}, {Class: "other", Says: "none of the triggers that were tried", Unit: "pixels", Result: answers("none")}}}
}

// answers is an explanation that says a kind.
func answers(said string) store.ExplanationResult {
	return store.ExplanationResult{Class: 1, Said: said, Strongest: "patch", Size: 8.25, ASR: 0.97, ZeroShot: 0.02, Others: 0.3, Untouched: math.NaN(), PSNR: 21.5, SSIM: 0.912,
		IoU: 0.7, Distance: 0.1, Seconds: 3, Families: []store.FamilyEvidence{{Kind: "patch", Lift: 1.25, Gain: 2.5, ASR: 0.96}, {Kind: "warp", Lift: -0.5, Gain: 0.25, ASR: 0.375}}}
}

// serve serves a source as view does.
func serve(t testing.TB, src Source) (base string) {
	t.Helper()
	server := httptest.NewUnstartedServer(nil)
	_, port, _ := strings.Cut(server.Listener.Addr().String(), ":")
	var n int
	fmt.Sscan(port, &n)
	server.Config.Handler = Handler(src, n)
	server.Start()
	t.Cleanup(server.Close)
	return server.URL
}

func get(t testing.TB, address string) (status int, header http.Header, text string) {
	t.Helper()
	r, err := http.Get(address)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	raw, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return r.StatusCode, r.Header, string(raw)
}

// Only this machine's own names are answered, only reading is, and an address is no path.
func TestViewerAnswersReadersOfThisMachineAlone(t *testing.T) {
	base := serve(t, &memory{suites: []*Suite{made(2, named)}})
	ask := func(method, path, host string) (int, http.Header) {
		t.Helper()
		r, err := http.NewRequest(method, base+path, strings.NewReader("x=1"))
		if err != nil {
			t.Fatal(err)
		}
		if host != "" {
			r.Host = host
		}
		answer, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		return answer.StatusCode, answer.Header
	}
	port := base[strings.LastIndexByte(base, ':'):]
	for host, want := range map[string]int{"": 200, "127.0.0.1" + port: 200, "localhost" + port: 200, "evil.example" + port: 403, "127.0.0.1": 403, "127.0.0.1:1": 403,
		"evil.example": 403, "127.0.0.1.evil.example" + port: 403} {
		if got, _ := ask("GET", "/", host); got != want {
			t.Errorf("Host %q: status %d, want %d", host, got, want)
		}
	}
	for method, want := range map[string]int{"GET": 200, "HEAD": 200, "POST": 405, "PUT": 405, "DELETE": 405, "OPTIONS": 405} {
		if got, _ := ask(method, "/suite?run=runs/made", ""); got != want {
			t.Errorf("%s: status %d, want %d", method, got, want)
		}
	}
	for _, path := range []string{"/suite?run=/etc", "/suite?run=../..", "/audit?run=runs/made", "/model?run=runs/made&key=zzzz", "/model?run=runs/made&key=0", "/etc/passwd",
		"/static/viewer.js", "/plot.svg?run=runs/made&name=../x"} {
		if got, _ := ask("GET", path, ""); got != 404 {
			t.Errorf("%s: status %d, want 404", path, got)
		}
	}
	_, header := ask("GET", "/", "")
	for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", "Cross-Origin-Resource-Policy": "same-origin"} {
		if got := header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if p := header.Get("Content-Security-Policy"); !strings.Contains(p, "default-src 'none'") || strings.Contains(p, "unsafe") {
		t.Errorf("policy %q", p)
	}
}

var firstCells = regexp.MustCompile(`<tr[^>]*><th scope="row"[^>]*><a href="[^"]*key=(\d+)[^"]*">`)

// modelKeys are the models of a page in its order.
func modelKeys(t *testing.T, page string) (keys []string) {
	t.Helper()
	_, models, ok := strings.Cut(page, `<table id="models"`)
	if !ok {
		t.Fatalf("no table of models in\n%.2000s", page)
	}
	models, _, _ = strings.Cut(models, "</table>")
	for _, m := range firstCells.FindAllStringSubmatch(models, -1) {
		keys = append(keys, m[1])
	}
	return keys
}

// Without any script an address sorts and filters.
func TestAddressesSortAndFilter(t *testing.T) {
	s := made(5, named)
	base := serve(t, &memory{suites: []*Suite{s}}) + "/suite?run=runs%2Fmade&suite=made"
	_, _, page := get(t, base)
	if got := modelKeys(t, page); len(got) != 20 || got[0] != "000000000000" {
		t.Fatalf("%d models, first %s", len(got), got[0])
	}
	for query, want := range map[string]func(m store.ModelRow) bool{
		"set=set-03":                    func(m store.ModelRow) bool { return m.Cell.Dataset == "set-03" },
		"attack=badnets&seed=2":         func(m store.ModelRow) bool { return m.Cell.Attack == "badnets" && m.Cell.Seed == 2 },
		"verdict=wrong&detector=ci":     func(m store.ModelRow) bool { return m.Cell.Order%5 == 4 },
		"verdict=wrong&detector=other":  func(m store.ModelRow) bool { return !m.Result.Backdoored },
		"verdict=cannot-tell":           func(m store.ModelRow) bool { return false },
		"set=set-01&attack=clean&seed=": func(m store.ModelRow) bool { return m.Cell.Dataset == "set-01" && m.Cell.Attack == "clean" },
	} {
		_, _, page := get(t, base+"&"+query)
		var keys []string
		for _, m := range s.Rows.Models {
			if want(m) {
				keys = append(keys, m.Cell.Key)
			}
		}
		if got := modelKeys(t, page); fmt.Sprint(got) != fmt.Sprint(keys) {
			t.Errorf("%s: %v, want %v", query, got, keys)
		}
	}
	_, _, page = get(t, base+"&sort-models=-acc")
	last := math.Inf(1)
	for _, key := range modelKeys(t, page) {
		for _, m := range s.Rows.Models {
			if m.Cell.Key == key {
				if m.Result.ACC > last {
					t.Errorf("ACC %v after %v", m.Result.ACC, last)
				}
				last = m.Result.ACC
			}
		}
	}
	if !strings.Contains(page, `aria-sort="descending" data-key="acc"`) {
		t.Error("the sorted column does not say so")
	}
	// Figures are those of the models that are shown.
	f := stats.Judge(s.Rows.Models[:4], s.Rows.Detections)
	_, _, page = get(t, base+"&set=set-00&detector=ci")
	if !strings.Contains(page, "Figures are of 4 of 20 models.") || f.Models != 8 || strings.Contains(page, `<th scope="row">other</th>`) {
		t.Errorf("figures of a filtered suite, %+v", f)
	}
}

func TestStatusTellsTheState(t *testing.T) {
	s := made(2, named)
	base := serve(t, &memory{suites: []*Suite{s}})
	for path, shown := range map[string]string{"/status?run=runs/made&suite=made": "/suite?run=runs/made", "/status": "/"} {
		for range 2 {
			_, _, text := get(t, base+path)
			_, _, page := get(t, base+shown)
			var got struct{ Version string }
			if err := json.Unmarshal([]byte(text), &got); err != nil || !strings.Contains(page, ` data-version="`+got.Version+`"`) {
				t.Errorf("%s: %q, %v, not what the page shows", path, text, err)
			}
			s.Version += "1" // something new
		}
	}
}

// A suite that runs shows who works on what, what is left and what failed.
func TestProgressIsShown(t *testing.T) {
	s := made(2, named)
	s.Rows.Models[3].State, s.Rows.Models[3].Message = store.Failed, "tune: loss is NaN <b>"
	s.Rows.Models[4].State = store.Pending
	s.Progress.Models = store.Counts{Planned: 8, Finished: 6, Failed: 1, Pending: 1, Leased: 1, Seconds: 60}
	s.Progress.Detections = store.Counts{Planned: 16, Finished: 12, Pending: 4, Blocked: 2, Seconds: 12}
	s.Leases = []store.Lease{{Kind: store.KindModel, Key: s.Rows.Models[4].Cell.Key, Worker: "host/17/123/0"}}
	_, _, page := get(t, serve(t, &memory{suites: []*Suite{s}})+"/suite?run=runs/made")
	for _, want := range []string{"18 of 24 cells finished; about 12s left with one worker at work", "host, process 17, worker 0: model set-01, clean, coop, seed 1",
		"<b>set-00, badnets, coop, seed 2</b>: tune: loss is NaN &lt;b&gt;", `data-live="/status?run=runs%2Fmade&amp;suite=made"`, "2 wait for what failed"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
}

// Which kind of trigger a class answers to stands on the pages of its model and of its audit, and
// of all models in the overview.
func TestExplanationsAreShown(t *testing.T) {
	s := made(2, named)
	s.Rows.Explanations[7].Result.Said = "warp"
	s.Rows.Explanations[6].State = store.Failed
	base := serve(t, &memory{suites: []*Suite{s}, audits: []*Audit{audited()}})
	const numbers = `<th scope="row">patch (explains it)</th><td class="n" data-v="1.25">1.25</td><td class="n" data-v="2.5">2.50</td><td class="n" data-v="0.96">0.96</td></tr>`
	for path, want := range map[string][]string{
		"/audit?run=runs/audit": {"It answers to a patch of about 8 x 8 pixels at the &#34;&gt;&lt;script&gt;", "It answers to none of the triggers", numbers, "8.25 pixels",
			"21.5 dB, 0.912", "What &lt;img src=x", "p = 0.001 among its references"},
		"/model?run=runs/made&key=000000000001": {"It answers to a patch at the &lt;/td&gt;", numbers, "8.25 pixels", "0.97 on images", "with the recovered trigger", "suspected by ci"},
		"/model?run=runs/made&key=000000000006": {"What was planted"},
		"/suite?run=runs/made":                  {`<table id="kinds"`, `data-key="kind"`, `<td>patch</td></tr>`, `<td>–</td></tr>`},
	} {
		_, _, page := get(t, base+path)
		for _, w := range want {
			if !strings.Contains(page, w) {
				t.Errorf("%s does not show %q", path, w)
			}
		}
	}
	_, _, page := get(t, base+"/model?run=runs/made&key=000000000006")
	if strings.Contains(page, "It answers to") {
		t.Error("an explanation that failed is shown")
	}
	// Of the four backdoored models that are found or missed three answer to a patch and one to a
	// warp.
	_, _, page = get(t, base+"/suite?run=runs/made")
	table := page[strings.Index(page, `<table id="kinds"`):]
	table = table[:strings.Index(table, "</table>")]
	said := map[string]float64{}
	for _, row := range regexp.MustCompile(`>badnets</a></th><td>(\w+)</td>(.*)</tr>`).FindAllStringSubmatch(table, -1) {
		for i, n := range regexp.MustCompile(`data-v="([^"]+)"`).FindAllStringSubmatch(row[2], 4) {
			var v float64
			fmt.Sscan(n[1], &v)
			said[[]string{"models", "patch", "warp", "none"}[i]] += v
		}
	}
	if fmt.Sprint(said) != "map[models:4 none:0 patch:3 warp:1]" {
		t.Errorf("%v in\n%s", said, table)
	}
}

func TestComparisonsArePages(t *testing.T) {
	base := serve(t, &memory{suites: []*Suite{made(3, named)}})
	_, _, page := get(t, base+"/compare?"+url.Values{"a": {"runs/made: made"}, "by": {"detector"}}.Encode())
	for _, want := range []string{"detector ci (A) and other (B)", `<th scope="row">ci and other</th><td class="n" data-v="12">12</td>`, "Models whose verdict differs"} {
		if !strings.Contains(page, want) {
			t.Errorf("the page does not say %q", want)
		}
	}
	_, _, page = get(t, base+"/compare?"+url.Values{"a": {"runs/made: made"}, "b": {"runs/made: made"}}.Encode())
	if !strings.Contains(page, "No verdict differs.") {
		t.Error("a suite differs from itself")
	}
	if _, _, page = get(t, base+"/compare?a=nothing"); !strings.Contains(page, "there is no suite nothing here") {
		t.Error("a suite that is not there is not named")
	}
}

package experiments

import (
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"

	"clipinspector/internal/printable"
	"clipinspector/internal/progress"
	"clipinspector/results/store"
)

// report shows how far a run has come: a bar on a terminal, a line every ten seconds or ten percent
// elsewhere.
type report struct {
	w     io.Writer
	bar   *progressbar.ProgressBar
	store *store.Store
	suite string
	// weight is the estimated work of one cell of a kind, so that a bar of models and detections
	// moves evenly.
	weight map[store.Kind]float64
	total  float64

	mu      sync.Mutex
	running map[string]*running
	start   time.Time
	first   float64 // share that was done at the start
	said    float64 // share and time of the last line
	saidAt  time.Time
	stop    chan struct{}
	done    chan struct{}
}

type running struct {
	weight, part float64
}

func newReport(w io.Writer, s *store.Store, p *Plan, workers int) *report {
	e := p.estimate()
	r := &report{w: w, store: s, suite: p.File.Name, running: map[string]*running{}, start: time.Now(),
		weight: map[store.Kind]float64{store.KindModel: mean(e.Models.FLOP, len(p.Models)),
			store.KindReference:   mean(e.References.FLOP, len(p.References)),
			store.KindDetection:   mean(e.Detections.FLOP, len(p.Detections)),
			store.KindExplanation: mean(e.Explanations.FLOP, len(p.Explanations)),
			store.KindRepair:      mean(e.Repairs.FLOP, len(p.Repairs))},
		stop: make(chan struct{}), done: make(chan struct{})}
	r.total = e.Models.FLOP + e.References.FLOP + e.Detections.FLOP + e.Explanations.FLOP + e.Repairs.FLOP
	if w == nil {
		close(r.done)
		return r
	}
	at, share := r.state()
	r.first, r.said, r.saidAt = share, share, r.start
	left := at.Models.Pending + at.References.Pending + at.Detections.Pending + at.Explanations.Pending + at.Repairs.Pending
	threads := "one worker"
	if workers > 1 {
		threads = fmt.Sprintf("%d workers", workers)
	}
	cells := fmt.Sprintf("%d models, %d detections", len(p.Models), len(p.Detections))
	if len(p.References) > 0 {
		cells += fmt.Sprintf(", %d references", len(p.References))
	}
	if len(p.Explanations) > 0 {
		cells += fmt.Sprintf(", %d explanations", len(p.Explanations))
	}
	if len(p.Repairs) > 0 {
		cells += fmt.Sprintf(", %d repairs", len(p.Repairs))
	}
	r.line("suite %s: %s; %d cells to run, %s", r.suite, cells, left, threads)
	r.bar = progress.NewBar(w, progressbar.OptionSetPredictTime(false))
	go r.run()
	return r
}

func mean(sum float64, n int) float64 { return sum / float64(max(1, n)) }

// begin notes that a cell runs; the function returned notes that it does no longer.
func (r *report) begin(kind store.Kind, key string) (end func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running[key] = &running{weight: r.weight[kind]}
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.running, key)
	}
}

// step returns what a cell tells its progress to.
func (r *report) step(key string) func(done, total int) {
	return func(done, total int) {
		r.mu.Lock()
		defer r.mu.Unlock()
		if c := r.running[key]; c != nil && total > 0 {
			c.part = float64(done) / float64(total)
		}
	}
}

// state returns the suite's progress and the share of the work that is done.
func (r *report) state() (store.Progress, float64) {
	p, err := r.store.Progress(r.suite)
	if err != nil || r.total == 0 {
		return p, 0
	}
	done := float64(p.Models.Finished+p.Models.Failed)*r.weight[store.KindModel] +
		float64(p.References.Finished+p.References.Failed)*r.weight[store.KindReference] +
		float64(p.Detections.Finished+p.Detections.Failed)*r.weight[store.KindDetection] +
		float64(p.Explanations.Finished+p.Explanations.Failed)*r.weight[store.KindExplanation] +
		float64(p.Repairs.Finished+p.Repairs.Failed)*r.weight[store.KindRepair]
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.running {
		done += c.weight * c.part
	}
	return p, min(1, done/r.total)
}

// line prints one line, above the bar where there is one.
func (r *report) line(format string, args ...any) {
	if r.w == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bar != nil {
		_ = r.bar.Clear() // a terminal that is gone has nobody to tell
	}
	fmt.Fprintln(r.w, printable.Lines(fmt.Sprintf(format, args...)))
}

func (r *report) run() {
	defer close(r.done)
	every := 2 * time.Second
	if _, events := r.w.(*progress.Events); events || r.bar != nil {
		every = 500 * time.Millisecond
	}
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-r.stop:
			return
		case <-ticker.C:
			r.show()
		}
	}
}

func (r *report) show() {
	p, share := r.state()
	text := fmt.Sprintf("%d/%d models, %d/%d detections", p.Models.Finished, p.Models.Planned, p.Detections.Finished, p.Detections.Planned)
	if p.References.Planned > 0 {
		text += fmt.Sprintf(", %d/%d references", p.References.Finished, p.References.Planned)
	}
	if p.Explanations.Planned > 0 {
		text += fmt.Sprintf(", %d/%d explanations", p.Explanations.Finished, p.Explanations.Planned)
	}
	if p.Repairs.Planned > 0 {
		text += fmt.Sprintf(", %d/%d repairs", p.Repairs.Finished, p.Repairs.Planned)
	}
	if failed := p.Models.Failed + p.References.Failed + p.Detections.Failed + p.Explanations.Failed + p.Repairs.Failed; failed > 0 {
		text += fmt.Sprintf(", %d failed", failed)
	}
	elapsed := time.Since(r.start)
	if moved := share - r.first; moved > 0.002 && share < 1 {
		left := time.Duration(float64(elapsed) * (1 - share) / moved)
		text += fmt.Sprintf(", about %s left", left.Round(time.Second))
	}
	if e, ok := r.w.(*progress.Events); ok {
		e.Tell(progress.Event{What: r.suite, Done: int(1000 * share), Total: 1000, Text: text})
		return
	}
	if r.bar != nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.bar.Describe(text)
		_ = r.bar.Set(min(999, int(1000*share))) // a terminal that is gone has nobody to tell
		return
	}
	if now := time.Now(); share-r.said >= 0.1 || now.Sub(r.saidAt) >= 10*time.Second {
		r.said, r.saidAt = share, now
		r.line("%3.0f %%  %s", 100*share, text)
	}
}

func (r *report) close() {
	if r.w == nil {
		return
	}
	close(r.stop)
	<-r.done
	if r.bar != nil {
		_ = r.bar.Finish() // a terminal that is gone has nobody to tell
	}
	if _, events := r.w.(*progress.Events); events {
		r.show() // the end of it
	}
	p, _ := r.state()
	repairs := ""
	if p.Repairs.Planned > 0 {
		repairs = fmt.Sprintf(" and %d of %d repairs", p.Repairs.Finished, p.Repairs.Planned)
	}
	r.line("%d of %d models and %d of %d detections%s are finished, after %s", p.Models.Finished, p.Models.Planned,
		p.Detections.Finished, p.Detections.Planned, repairs, time.Since(r.start).Round(time.Second))
}

package experiments

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"

	"clipinspector/results/store"
)

// Status says how far one store below an output folder has come.
type Status struct {
	Shard    Shard // zero for the output folder's own store
	Suite    string
	Progress store.Progress
	Failures []string      // messages of failed cells
	Left     time.Duration // how long the cells that are left would take one after the other, as those took that are finished
	Unknown  bool          // whether cells are left of a kind of which none is finished: Left is too short
	Begun    bool          // whether there is a store
}

// Finished tells whether every cell of the store is finished.
func (s Status) Finished() bool {
	return s.Begun && s.Progress.Open() == 0
}

// StatusOf reads how far the shards below an output folder have come, or its own store where it has
// no shards, from the files alone.
func StatusOf(out string) (all []Status, err error) {
	shards, err := shardsBelow(out)
	if err != nil {
		return nil, err
	}
	if len(shards) == 0 {
		all, err = statusIn(out, Shard{})
		if err == nil && len(all) == 0 {
			err = fmt.Errorf("status: neither a store (%s) nor shards (%s) lie in %s", StoreFile, filepath.Join(shardsFolder, "I-of-N"), out)
		}
		return all, err
	}
	for i := range shards[len(shards)-1].Of {
		s := Shard{i + 1, shards[len(shards)-1].Of}
		found, err := statusIn(s.Folder(out), s)
		if err != nil {
			return nil, err
		}
		if len(found) == 0 {
			found = []Status{{Shard: s}}
		}
		all = append(all, found...)
	}
	return all, nil
}

func statusIn(folder string, shard Shard) (all []Status, err error) {
	path := filepath.Join(folder, StoreFile)
	if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	s, err := store.OpenExisting(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	suites, err := s.Suites()
	if err != nil {
		return nil, err
	}
	for _, u := range suites {
		st := Status{Shard: shard, Suite: u.Name, Begun: true}
		if st.Progress, err = s.Progress(u.Name); err != nil {
			return nil, err
		}
		models, err := s.Models(u.Name)
		if err != nil {
			return nil, err
		}
		detections, err := s.Detections(u.Name)
		if err != nil {
			return nil, err
		}
		repairs, err := s.Repairs(u.Name)
		if err != nil {
			return nil, err
		}
		explanations, err := s.Explanations(u.Name)
		if err != nil {
			return nil, err
		}
		references, err := s.References(u.Name)
		if err != nil {
			return nil, err
		}
		var m, x, d, r took
		for _, c := range models {
			m.add(c.State, c.Result.Seconds)
			st.fail(c.State, c.Message)
		}
		for _, c := range references {
			x.add(c.State, c.Result.Seconds)
			st.fail(c.State, c.Message)
		}
		for _, c := range detections {
			d.add(c.State, c.Result.Seconds)
			st.fail(c.State, c.Message)
		}
		for _, c := range explanations {
			r.add(c.State, c.Result.Seconds)
			st.fail(c.State, c.Message)
		}
		for _, c := range repairs {
			r.add(c.State, c.Result.Seconds)
			st.fail(c.State, c.Message)
		}
		for _, t := range []took{m, x, d, r} {
			st.Left += time.Duration(t.left() * float64(time.Second))
			st.Unknown = st.Unknown || t.open > 0 && t.finished == 0
		}
		all = append(all, st)
	}
	return all, nil
}

func (s *Status) fail(state store.State, message string) {
	if state == store.Failed {
		s.Failures = append(s.Failures, message)
	}
}

// took adds up the seconds of finished cells and counts those to come.
type took struct {
	seconds        float64
	finished, open int
}

func (t *took) add(state store.State, seconds float64) {
	switch state {
	case store.Finished:
		t.seconds += seconds
		t.finished++
	case store.Pending:
		t.open++
	}
}

// left is how long the open cells take, in seconds; 0 where no cell has told.
func (t took) left() float64 { return t.seconds / float64(max(1, t.finished)) * float64(t.open) }

// PrintStatus writes a table of stores, a line each, and the failures below it.
func PrintStatus(w io.Writer, all []Status) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "shard\tsuite\tmodels\treferences\tdetections\trepairs\tfailed\trunning\tleft")
	var left time.Duration
	unknown := false
	done := 0
	for _, s := range all {
		p := s.Progress
		name := s.Shard.String()
		if name == "" {
			name = "-"
		}
		if !s.Begun {
			fmt.Fprintf(t, "%s\t\tnot begun\t\t\t\t\t\t\n", name)
			continue
		}
		if s.Finished() {
			done++
		}
		left, unknown = max(left, s.Left), unknown || s.Unknown
		fmt.Fprintf(t, "%s\t%s\t%d/%d\t%d/%d\t%d/%d\t%d/%d\t%d\t%d\t%s\n", name, s.Suite, p.Models.Finished, p.Models.Planned, p.References.Finished, p.References.Planned, p.Detections.Finished, p.Detections.Planned,
			p.Repairs.Finished, p.Repairs.Planned, p.Models.Failed+p.References.Failed+p.Detections.Failed+p.Explanations.Failed+p.Repairs.Failed,
			p.Models.Leased+p.References.Leased+p.Detections.Leased+p.Explanations.Leased+p.Repairs.Leased, remaining(s.Left, s.Unknown))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, s := range all {
		for i, f := range s.Failures {
			if i == 3 {
				fmt.Fprintf(w, "shard %s: %d more failures\n", s.Shard, len(s.Failures)-3)
				break
			}
			fmt.Fprintf(w, "shard %s failed: %s\n", s.Shard, f)
		}
	}
	_, err := fmt.Fprintf(w, "%d of %d finished; the slowest begun one has %s left, its cells one after the other\n", done, len(all), remaining(left, unknown))
	return err
}

// remaining writes a duration, or that it is longer than is known.
func remaining(left time.Duration, unknown bool) string {
	text := left.Round(time.Second).String()
	if unknown {
		return ">" + text
	}
	return text
}

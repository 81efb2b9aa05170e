package store

import (
	"bufio"
	"fmt"
	"io"
	"math"
)

// Export writes the suite's cells as JSON lines: models, references, detections, explanations,
// repairs, each by (Order, Key), with settings, measured figures, verdicts and class scores.
// Durations, times, workers, paths, versions and error messages are left out, so that the same
// settings and seeds give the same bytes however the run was cut into workers, threads and
// resumptions. NaN is null, infinities are the strings "+Inf" and "-Inf".
func (s *Store) Export(w io.Writer, suite string) error {
	out := bufio.NewWriter(w)
	line := func(v any) error {
		raw, err := CanonicalJSON(v)
		if err != nil {
			return err
		}
		_, err = out.Write(append(raw, '\n'))
		return err
	}
	for _, write := range []func(*Store, string, func(any) error) error{models.export, references.export, detections.export, explanations.export, repairs.export} {
		if err := write(s, suite, line); err != nil {
			return err
		}
	}
	if err := out.Flush(); err != nil {
		return fmt.Errorf("export suite %q: %w", suite, err)
	}
	return nil
}

// exact is a float64 as JSON can hold it without loss.
func exact(v float64) any {
	switch {
	case math.IsNaN(v):
		return nil
	case math.IsInf(v, 1):
		return "+Inf"
	case math.IsInf(v, -1):
		return "-Inf"
	}
	return v
}

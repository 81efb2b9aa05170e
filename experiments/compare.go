package experiments

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// Difference is how two runs of a suite differ in what their detectors found: the same models, on two devices or at two precisions.
type Difference struct {
	Detections int     // in both
	Score      float64 // largest difference of a class's score
	Index      float64 // largest difference of a model's anomaly index
	Verdicts   int     // that differ
	Doubtful   int     // of those, with an index within 0.05 of its threshold on either side
}

// doubt is how near to the threshold an index may lie for its verdict to depend on rounding.
const doubt = 0.05

// Compare reads the exports (scores.jsonl) of two output folders. Detections are matched by model and detector; it fails when
// there is nothing to match, or models differ.
func Compare(a, b string, k float64) (Difference, error) {
	var c Difference
	x, err := detections(a)
	if err != nil {
		return c, err
	}
	y, err := detections(b)
	if err != nil {
		return c, err
	}
	for key, p := range x {
		q, ok := y[key]
		if !ok || len(p.Classes) != len(q.Classes) {
			continue
		}
		c.Detections++
		c.Index = math.Max(c.Index, math.Abs(p.Index-q.Index))
		for i := range p.Classes {
			c.Score = math.Max(c.Score, math.Abs(p.Classes[i].Score-q.Classes[i].Score))
		}
		if p.Backdoored != q.Backdoored {
			c.Verdicts++
			if math.Min(math.Abs(p.Index-k), math.Abs(q.Index-k)) <= doubt {
				c.Doubtful++
			}
		}
	}
	if c.Detections == 0 {
		return c, fmt.Errorf("%s and %s have no finished detection of the same model in common", a, b)
	}
	return c, nil
}

// Print writes a difference as a line.
func (c Difference) Print(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%d detections: scores differ by at most %.2g, indices by %.2g, %d verdicts (%d of them with an index within %v of k)\n",
		c.Detections, c.Score, c.Index, c.Verdicts, c.Doubtful, doubt)
	return err
}

type detection struct {
	Index      float64 `json:"index"`
	Backdoored bool    `json:"backdoored"`
	Classes    []struct {
		Score float64 `json:"score"`
	} `json:"classes"`
}

// detections reads the finished detections of an export by model's hash and detector.
func detections(dir string) (map[string]detection, error) {
	path := filepath.Join(dir, "scores.jsonl")
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("comparing runs: %w", err)
	}
	defer f.Close()
	out, hash := map[string]detection{}, map[string]string{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 64<<20)
	for n := 1; lines.Scan(); n++ {
		var head struct {
			Kind, Key, Model, Detector string
			Settings                   map[string]json.RawMessage
			Result                     json.RawMessage
		}
		fail := func(err error) (map[string]detection, error) {
			return nil, fmt.Errorf("comparing runs: %s:%d: %w", path, n, err)
		}
		if err := json.Unmarshal(lines.Bytes(), &head); err != nil {
			return fail(err)
		}
		if len(head.Result) == 0 {
			continue
		}
		switch {
		case strings.HasPrefix(head.Kind, "model"):
			var m struct{ Hash string }
			if err := json.Unmarshal(head.Result, &m); err != nil {
				return fail(err)
			}
			hash[head.Key] = m.Hash
		case strings.HasPrefix(head.Kind, "detection"):
			var d detection
			if err := json.Unmarshal(head.Result, &d); err != nil {
				return fail(err)
			}
			out[hash[head.Model]+" "+string(head.Settings["detector"])] = d
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("comparing runs: %s: %w", path, err)
	}
	return out, nil
}

package cmd

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"clipinspector/experiments"
	"clipinspector/internal/files"
	"clipinspector/results/stats"
)

// change is how two runs of a suite differ in what their detectors found: the same models, on two devices, at two precisions or
// with two values of a setting.
type change struct {
	Detections int     // in both
	Score      float64 // largest difference of a class's score
	Index      float64 // largest difference of a model's anomaly index
	Verdicts   int     // that differ
	Doubtful   int     // of those, with an index within 0.05 of its threshold on either side
	Suspects   int     // that differ, of models which both call backdoored
	Passes     [2]int64
}

// doubt is how near to the threshold an index may lie for its verdict to depend on rounding.
const doubt = 0.05

// compareTwo reads the exports (scores.jsonl) of two output folders. Detections are matched by model and detector; it fails when
// there is nothing to match, or models differ.
func compareTwo(a, b string, k float64) (change, error) {
	x, err := detections(a, "")
	if err != nil {
		return change{}, err
	}
	y, err := detections(b, "")
	if err != nil {
		return change{}, err
	}
	c := difference(x[""], y[""], k)
	if c.Detections == 0 {
		return c, fmt.Errorf("%s and %s have no finished detection of the same model in common", a, b)
	}
	return c, nil
}

// compareBy reads the export of one output folder and compares what detectors found at each value of a setting of theirs with what they
// found at the first one, all else being equal. Values are texts of JSON, in their order as numbers or else as texts.
func compareBy(dir, setting string, k float64) (values []string, differences []change, err error) {
	found, err := detections(dir, setting)
	if err != nil {
		return nil, nil, err
	}
	delete(found, "") // detectors without the setting
	values = slices.SortedFunc(maps.Keys(found), func(a, b string) int {
		x, errX := strconv.ParseFloat(a, 64)
		y, errY := strconv.ParseFloat(b, 64)
		if errX != nil || errY != nil {
			return strings.Compare(a, b)
		}
		return cmp.Compare(x, y)
	})
	if len(values) < 2 {
		return nil, nil, fmt.Errorf("%s has no detectors of which only the setting %q differs: name one that its suite sweeps", dir, setting)
	}
	for _, v := range values[1:] {
		differences = append(differences, difference(found[values[0]], found[v], k))
	}
	return values, differences, nil
}

func difference(x, y map[string]detection, k float64) (c change) {
	for key, p := range x {
		q, ok := y[key]
		if !ok || len(p.Classes) != len(q.Classes) {
			continue
		}
		c.Detections++
		c.Index = math.Max(c.Index, apart(p.Index, q.Index))
		for i := range p.Classes {
			c.Score = math.Max(c.Score, apart(p.Classes[i].Score, q.Classes[i].Score))
		}
		if p.Backdoored != q.Backdoored {
			c.Verdicts++
			if math.Min(apart(p.Index, stats.Num(k)), apart(q.Index, stats.Num(k))) <= doubt {
				c.Doubtful++
			}
		} else if p.Backdoored && p.Suspect != q.Suspect {
			c.Suspects++
		}
		c.Passes[0], c.Passes[1] = c.Passes[0]+p.Passes, c.Passes[1]+q.Passes
	}
	return c
}

// apart returns how far two figures lie apart: infinitely where only one of them exists.
func apart(a, b stats.Num) float64 {
	x, y := float64(a), float64(b)
	switch {
	case x == y || math.IsNaN(x) && math.IsNaN(y):
		return 0
	case math.IsNaN(x) || math.IsNaN(y):
		return math.Inf(1)
	}
	return math.Abs(x - y)
}

// print writes a difference as a line.
func (c change) print(w io.Writer) error {
	_, err := fmt.Fprintf(w, "%d detections: scores differ by at most %.2g, indices by %.2g, %d verdicts (%d of them with an index within %v of k), "+
		"%d suspects; %d image passes, then %d (%.2f times fewer)\n", c.Detections, c.Score, c.Index, c.Verdicts, c.Doubtful, doubt, c.Suspects,
		c.Passes[0], c.Passes[1], float64(c.Passes[0])/float64(c.Passes[1]))
	return err
}

type detection struct {
	Index      stats.Num `json:"index"`
	Backdoored bool      `json:"backdoored"`
	Suspect    int       `json:"suspect"`
	Passes     int64     `json:"image_passes"`
	Classes    []struct {
		Score stats.Num `json:"score"`
	} `json:"classes"`
}

// detections reads the finished detections of an export by the value of a detector's setting, "" for none, and within that by model's hash and
// the detector's other settings.
func detections(dir, setting string) (map[string]map[string]detection, error) {
	path := filepath.Join(dir, experiments.ScoresFile)
	f, err := files.Open(path)
	if err != nil {
		return nil, fmt.Errorf("comparing runs: %w", err)
	}
	defer f.Close()
	out, hash := map[string]map[string]detection{}, map[string]string{}
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 64<<20)
	for n := 1; lines.Scan(); n++ {
		var head struct {
			Kind, Key, Model, Detector string
			Settings                   map[string]json.RawMessage
			Result                     json.RawMessage
		}
		fail := func(err error) (map[string]map[string]detection, error) {
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
			var others map[string]json.RawMessage
			if err := json.Unmarshal(head.Settings["detector"], &others); err != nil {
				return fail(err)
			}
			value := string(others[setting])
			delete(others, setting)
			text, err := json.Marshal(others)
			if err != nil {
				return fail(err)
			}
			if out[value] == nil {
				out[value] = map[string]detection{}
			}
			out[value][hash[head.Model]+" "+string(text)] = d
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("comparing runs: %s: %w", path, err)
	}
	return out, nil
}

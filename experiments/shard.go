package experiments

import (
	"cmp"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"clipinspector/clip"
	"clipinspector/results/store"
)

// Shard is a part of a plan: number Index, from 1, of Of. The zero Shard is the whole plan.
type Shard struct{ Index, Of int }

// mostShards is how many parts a plan is cut into at most.
const mostShards = 100_000

// parseShard reads "I/N", I from 1 to N.
func parseShard(s string) (Shard, error) {
	i, n, ok := strings.Cut(s, "/")
	index, err := strconv.Atoi(i)
	of, err2 := strconv.Atoi(n)
	if !ok || err != nil || err2 != nil || of < 1 || of > mostShards || index < 1 || index > of {
		return Shard{}, fmt.Errorf("shard %.40q: want I/N with I from 1 to N, such as 3/8", s)
	}
	return Shard{index, of}, nil
}

// ShardVariable names the environment variable that says I/N for a run without --shard.
const ShardVariable = "CLIPINSPECTOR_SHARD"

// ShardOf reads what --shard says: "" (then ShardVariable decides), "I/N", or "auto" and "auto/N",
// which take the number from the job that runs this process: a task of a Slurm array, or a pod of
// an indexed Kubernetes job, which does not say how many there are.
func ShardOf(flag string, getenv func(string) string) (Shard, error) {
	if flag == "" {
		if v := getenv(ShardVariable); v != "" {
			s, err := parseShard(v)
			if err != nil {
				err = fmt.Errorf("%s: %w", ShardVariable, err)
			}
			return s, err
		}
		return Shard{}, nil
	}
	count, auto := strings.CutPrefix(flag, "auto")
	if !auto {
		return parseShard(flag)
	}
	number := func(name string) int {
		v, err := strconv.Atoi(getenv(name))
		if err != nil {
			return -1
		}
		return v
	}
	index := -1
	count = strings.TrimPrefix(count, "/")
	switch {
	case getenv(ShardVariable) != "":
		return parseShard(getenv(ShardVariable))
	case getenv("SLURM_ARRAY_TASK_ID") != "":
		step := max(1, number("SLURM_ARRAY_TASK_STEP"))
		index = (number("SLURM_ARRAY_TASK_ID")-max(0, number("SLURM_ARRAY_TASK_MIN")))/step + 1
		if count == "" {
			count = getenv("SLURM_ARRAY_TASK_COUNT")
		}
	case getenv("JOB_COMPLETION_INDEX") != "":
		index = number("JOB_COMPLETION_INDEX") + 1
	default:
		return Shard{}, fmt.Errorf("--shard %s: neither %s nor SLURM_ARRAY_TASK_ID nor JOB_COMPLETION_INDEX is set: say --shard I/N", flag, ShardVariable)
	}
	if count == "" {
		return Shard{}, fmt.Errorf("--shard auto: the job does not say how many shards there are: say --shard auto/N")
	}
	return parseShard(fmt.Sprintf("%d/%s", index, count))
}

// String is "I/N", or "" for the whole plan.
func (s Shard) String() string {
	if s.Of == 0 {
		return ""
	}
	return fmt.Sprintf("%d/%d", s.Index, s.Of)
}

const shardsFolder = "shards"

// Folder is where the shard's store and files lie: shards/I-of-N below the output folder of the
// suite.
func (s Shard) Folder(out string) string {
	if s.Of == 0 {
		return out
	}
	return filepath.Join(out, shardsFolder, fmt.Sprintf("%d-of-%d", s.Index, s.Of))
}

var shardFolder = regexp.MustCompile(`^([1-9][0-9]{0,5})-of-([1-9][0-9]{0,5})$`)

// shardsBelow lists the folders of shards below an output folder, by number.
func shardsBelow(out string) (shards []Shard, err error) {
	folders, err := filepath.Glob(filepath.Join(globEscape(out), shardsFolder, "*-of-*"))
	if err != nil {
		return nil, err
	}
	for _, f := range folders {
		if m := shardFolder.FindStringSubmatch(filepath.Base(f)); m != nil {
			if s, err := parseShard(m[1] + "/" + m[2]); err == nil {
				shards = append(shards, s)
			}
		}
	}
	slices.SortFunc(shards, func(a, b Shard) int { return cmp.Or(a.Of-b.Of, a.Index-b.Index) })
	return shards, nil
}

func globEscape(s string) string {
	return regexp.MustCompile(`[*?\[\\]`).ReplaceAllString(s, `\$0`)
}

// part is the plan of one shard: some of the models with all that hangs on them. Models that share
// clean references stay together, so that each reference is made once. Cells keep their places in
// the whole plan, so that merged shards export what an undivided run exports. The parts are of
// about equal work by the estimate: models are dealt out, the largest group first, to whoever has
// least. The same plan is always cut in the same way.
func (p *Plan) part(s Shard) *Plan {
	if s.Of == 0 {
		return p
	}
	mine := map[*modelJob]bool{}
	p.deal(s.Of, func(m *modelJob, shard int, _ float64) { mine[m] = shard == s.Index-1 })
	part := *p
	part.shard, part.whole = s, len(p.Models)
	part.Models, part.References, part.Detections, part.Explanations, part.Repairs = nil, nil, nil, nil, nil
	part.models, part.references = map[string]*modelJob{}, map[string]*referenceJob{}
	part.detections, part.repairs = map[string]*detectionJob{}, map[string]*repairJob{}
	part.explanations = map[string]*explanationJob{}
	for _, m := range p.Models {
		if mine[m] {
			part.Models = append(part.Models, m)
			part.models[m.Cell.Key] = m
		}
	}
	for _, r := range p.References {
		if mine[r.Model] {
			part.References = append(part.References, r)
			part.references[r.Cell.Key] = r
		}
	}
	for _, d := range p.Detections {
		if mine[d.Model] {
			part.Detections = append(part.Detections, d)
			part.detections[d.Cell.Key] = d
		}
	}
	for _, x := range p.Explanations {
		if mine[x.Detection.Model] {
			part.Explanations = append(part.Explanations, x)
			part.explanations[x.Cell.Key] = x
		}
	}
	for _, r := range p.Repairs {
		if mine[r.Detection.Model] {
			part.Repairs = append(part.Repairs, r)
			part.repairs[r.Cell.Key] = r
		}
	}
	return &part
}

// deal deals the models out to so many shards, numbered from 0.
func (p *Plan) deal(shards int, to func(m *modelJob, shard int, work float64)) {
	if p.workOf == nil {
		p.workOf = map[*modelJob]float64{}
		p.eachWork(func(_ store.Kind, m *modelJob, _ string, w clip.Work) { p.workOf[m] += w.FLOP })
	}
	work, groups := p.workOf, p.groups()
	sums := make([]float64, len(groups))
	order := make([]int, len(groups))
	for i, g := range groups {
		order[i] = i
		for _, m := range g {
			sums[i] += work[m]
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(sums[b], sums[a]) })
	load := make([]float64, shards)
	for _, i := range order {
		least := 0
		for j := range load {
			if load[j] < load[least] {
				least = j
			}
		}
		load[least] += sums[i]
		for _, m := range groups[i] {
			to(m, least, work[m])
		}
	}
}

// groups are the models that share references, in the plan's order; a model that shares none is a
// group of its own.
func (p *Plan) groups() (groups [][]*modelJob) {
	leader := map[*modelJob]*modelJob{}
	var find func(m *modelJob) *modelJob
	find = func(m *modelJob) *modelJob {
		if up := leader[m]; up != nil && up != m {
			leader[m] = find(up)
			return leader[m]
		}
		return m
	}
	for _, d := range p.Detections {
		for _, r := range d.References {
			if a, b := find(d.Model), find(r.Model); a != b {
				leader[a] = b
			}
		}
	}
	at := map[*modelJob]int{}
	for _, m := range p.Models {
		i, ok := at[find(m)]
		if !ok {
			i = len(groups)
			at[find(m)] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], m)
	}
	return groups
}

// loads is the estimated work of each of so many shards, in operations.
func (p *Plan) loads(shards int) []float64 {
	out := make([]float64, shards)
	p.deal(shards, func(_ *modelJob, shard int, work float64) { out[shard] += work })
	return out
}

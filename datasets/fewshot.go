package datasets

import "fmt"

// maxValShots is the most validation pictures a class CoOp keeps (datasets/*.py: min(num_shots,
// 4)).
const maxValShots = 4

// FewShot draws the few-shot sample that CoOp (through Dassl's generate_fewshot_dataset) draws with
// Python's random seeded with seed: for each label of the training split, in order of first
// appearance, shots pictures without replacement (all of them, in order, when the class has fewer),
// then from the validation split min(shots, 4) a class with the same generator running on. It
// returns indices into the splits, in the order drawn. On complete copies of the published sets
// these are the published samples.
func FewShot(ds Dataset, shots int, seed int) (train, val []int, err error) {
	if shots < 1 {
		return nil, nil, fmt.Errorf("few-shot sample of %s: want at least 1 shot, got %d", ds.Name(), shots)
	}
	if ds.Len(Train) == 0 {
		return nil, nil, fmt.Errorf("few-shot sample of %s: the training split is empty", ds.Name())
	}
	r := newPyRandom(int64(seed))
	train = sampleByLabel(ds, Train, shots, r)
	val = sampleByLabel(ds, Val, min(shots, maxValShots), r)
	return train, val, nil
}

func sampleByLabel(ds Dataset, split Split, shots int, r *pyRandom) []int {
	var order []int
	byLabel := map[int][]int{}
	for i := range ds.Len(split) {
		label := ds.Label(split, i)
		if _, seen := byLabel[label]; !seen {
			order = append(order, label)
		}
		byLabel[label] = append(byLabel[label], i)
	}
	var out []int
	for _, label := range order {
		items := byLabel[label]
		if len(items) < shots {
			out = append(out, items...)
			continue
		}
		for _, k := range r.sample(len(items), shots) {
			out = append(out, items[k])
		}
	}
	return out
}

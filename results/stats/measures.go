package stats

import (
	"math"

	"clipinspector/results/store"
)

// Figures are the measures of one detector over a set of models. Undefined ones
// are NaN (null in JSON): AUROC with one kind of models only, its interval with
// fewer than two datasets, a true-positive rate without backdoored models, a
// false-positive rate without clean ones. All intervals are 95 %.
type Figures struct {
	AUROC            Num      `json:"auroc"`
	AUROCInterval    Interval `json:"auroc_interval"` // bootstrap over datasets
	Models           int      `json:"models"`         // verdicts judged
	Correct          int      `json:"correct"`
	Unsure           int      `json:"cannot_tell"` // verdicts "cannot tell", which are never right
	Accuracy         Num      `json:"accuracy"`
	AccuracyInterval Interval `json:"accuracy_interval"` // Wilson
	TPR              Num      `json:"tpr"`
	TPRInterval      Interval `json:"tpr_interval"`
	FPR              Num      `json:"fpr"`
	FPRInterval      Interval `json:"fpr_interval"`
	TargetCorrect    Num      `json:"target_correct"` // share of true positives with a suspect whose suspect is the target
	Reached          Num      `json:"reached"`        // share of inversions (one a class) that reached the detector's own ASR bound
	ImagePasses      Num      `json:"image_passes"`   // mean per model
	Seconds          Num      `json:"seconds"`        // mean per model

	Backdoored        int `json:"-"` // models made with a backdoor
	TruePositives     int `json:"-"`
	FalsePositives    int `json:"-"`
	Named             int `json:"-"` // true positives of a detector that names a suspect
	TargetsRight      int `json:"-"`
	Inversions        int `json:"-"` // classes inverted, over all models
	InversionsReached int `json:"-"` // those that reached the bound
	Redrawn           int `json:"-"` // bootstrap resamples that lacked one kind
}

// trial is one verdict with the truth beside it.
type trial struct {
	dataset, attack string
	order           int // the model's
	truth, verdict  bool
	unsure          bool // the detector cannot tell
	named, right    bool // there is a suspect; it is the target
	firing          bool
	score           float64
	passes, seconds float64

	inversions, reached int // classes inverted, and those that reached the detector's ASR bound
}

// correct tells whether the verdict is the truth, which none is that cannot tell.
func (t trial) correct() bool { return !t.unsure && t.truth == t.verdict }

// figuresOf measures the trials. AUROC also counts the clean trials in against,
// which an attack's models are ranked against.
func figuresOf(trials, against []trial) Figures {
	f := Figures{Models: len(trials), AUROC: undefined, AUROCInterval: noInterval}
	var passes, seconds []float64
	for _, t := range trials {
		f.Unsure += boolInt(t.unsure)
		f.Correct += boolInt(t.correct())
		switch {
		case t.truth:
			f.Backdoored++
			if t.verdict {
				f.TruePositives++
				f.Named += boolInt(t.named)
				if t.right {
					f.TargetsRight++
				}
			}
		case t.verdict:
			f.FalsePositives++
		}
		f.Inversions += t.inversions
		f.InversionsReached += t.reached
		passes = append(passes, t.passes)
		seconds = append(seconds, t.seconds)
	}
	f.Accuracy, f.AccuracyInterval = rate(f.Correct, f.Models)
	f.TPR, f.TPRInterval = rate(f.TruePositives, f.Backdoored)
	f.FPR, f.FPRInterval = rate(f.FalsePositives, f.Models-f.Backdoored)
	f.TargetCorrect, _ = rate(f.TargetsRight, f.Named)
	f.Reached, _ = rate(f.InversionsReached, f.Inversions)
	f.ImagePasses, f.Seconds = Num(mean(passes)), Num(mean(seconds))

	var scores []float64
	var labels []bool
	var clusters []string
	for _, list := range [][]trial{trials, against} {
		for _, t := range list {
			scores = append(scores, t.score)
			labels = append(labels, t.truth)
			clusters = append(clusters, t.dataset)
		}
	}
	f.AUROC = Num(AUROC(scores, labels))
	lo, hi, redrawn := aurocInterval(scores, labels, clusters, Resamples, BootstrapSeed)
	f.AUROCInterval, f.Redrawn = Interval{Num(lo), Num(hi)}, redrawn
	return f
}

func rate(k, n int) (Num, Interval) {
	if n == 0 {
		return undefined, noInterval
	}
	lo, hi := Wilson(k, n)
	return Num(float64(k) / float64(n)), Interval{Num(lo), Num(hi)}
}

// mean is the mean of the numbers that are none of NaN and infinite; NaN for
// none.
func mean(v []float64) float64 {
	sum, n := 0.0, 0
	for _, x := range v {
		if !math.IsNaN(x) && !math.IsInf(x, 0) {
			sum += x
			n++
		}
	}
	return sum / float64(n)
}

// AttackFigures describe the models of one attack.
type AttackFigures struct {
	Models      int `json:"models"`
	ACCMean     Num `json:"acc_mean"`
	ASRMean     Num `json:"asr_mean"` // without the target class's images
	ASRMin      Num `json:"asr_min"`
	ACCDropMean Num `json:"acc_drop_mean"` // below the clean model of the same dataset, learner and seed
	Firing      int `json:"firing"`        // models with ASR >= FiringASR
	PSNR        Num `json:"psnr"`
	SSIM        Num `json:"ssim"`
}

// attackFigures measures the finished models of one attack; clean are the clean
// models they are compared with.
func attackFigures(models, clean []store.ModelRow) AttackFigures {
	f := AttackFigures{Models: len(models), ASRMin: undefined}
	var acc, asr, drop, psnr, ssim []float64
	for _, m := range models {
		r := m.Result
		acc, asr = append(acc, r.ACC), append(asr, r.ASR)
		psnr, ssim = append(psnr, r.PSNR), append(ssim, r.SSIM)
		if r.Backdoored {
			drop = append(drop, cleanACC(m, clean)-r.ACC)
		}
		if r.Firing() {
			f.Firing++
		}
		if !f.ASRMin.Defined() || r.ASR < float64(f.ASRMin) {
			f.ASRMin = Num(r.ASR)
		}
	}
	f.ACCMean, f.ASRMean, f.ACCDropMean = Num(mean(acc)), Num(mean(asr)), Num(mean(drop))
	f.PSNR, f.SSIM = Num(mean(psnr)), Num(mean(ssim))
	return f
}

// cleanACC is the accuracy of the clean model of the same dataset, learner and
// seed. Where a sweep made several, it is the mean of those whose settings agree
// with the model's most; NaN where there is none.
func cleanACC(m store.ModelRow, clean []store.ModelRow) float64 {
	own, best := Flatten(m.Cell.Settings), -1
	var acc []float64
	for _, c := range clean {
		if c.Cell.Dataset != m.Cell.Dataset || c.Cell.Learner != m.Cell.Learner || c.Cell.Seed != m.Cell.Seed {
			continue
		}
		agree := 0
		for path, v := range Flatten(c.Cell.Settings) {
			if own[path] == v {
				agree++
			}
		}
		if agree > best {
			best, acc = agree, nil
		}
		if agree == best {
			acc = append(acc, c.Result.ACC)
		}
	}
	return mean(acc)
}

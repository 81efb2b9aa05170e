package store

import (
	"slices"
	"time"
)

// Kind says which kind of cells is meant.
type Kind string

// The kinds of cells: a model, a clean reference that detectors hold models against, a detector's
// look at a model, a second look at what that suspects, and a repair with what was recovered.
const (
	KindModel     Kind = "model"
	KindReference Kind = "reference"
	KindDetection Kind = "detection"
	KindRepair    Kind = "repair"
	// KindExplanation says which kind of trigger the suspect of a detection answers to.
	KindExplanation Kind = "explanation"
)

// State is how far a cell has come. A leased cell is still pending.
type State string

// The states of a cell.
const (
	Pending  State = "pending"
	Finished State = "finished"
	Failed   State = "failed"
)

// FiringASR is the measured attack success rate from which a backdoor counts as
// firing.
const FiringASR = 0.9

// PartialSetting is the setting of a shard or a merged suite that says what is missing; absent when
// it is whole.
const PartialSetting = "partial"

// Suite is one planned set of cells under a name.
type Suite struct {
	Name     string
	YAML     string            // the text of the configuration
	Settings map[string]any    // after defaults and overrides
	Versions map[string]string // program, methods, engine
	Created  time.Time         // set by the store on first sight
}

// ModelCell names one prompt-tuned model.
type ModelCell struct {
	Key      string // identity; empty when planned: Key(Settings)
	Suite    string
	Dataset  string
	Attack   string // "clean" for none
	Learner  string
	Seed     int
	Settings map[string]any // everything that decides the model; read back, integers are int
	Order    int            // place in the suite's plan; cells are leased in this order
}

// ModelResult is what making a model left behind. Rates lie in [0,1]; NaN says
// that a figure does not exist.
type ModelResult struct {
	Backdoored bool
	Target     int     // target class, -1 for a clean model
	Classes    int     // number of classes
	ACC        float64 // accuracy on clean test images
	ASR        float64 // attack success on test images of the other classes
	ASRAll     float64 // on all test images
	ASROOD     float64 // on out-of-distribution images
	PSNR       float64 // of triggered images, dB
	SSIM       float64 // of triggered images
	Path       string  // where the model lies
	Hash       string  // SHA-256 of the model file
	// TriggerHash is the SHA-256 of the trigger's file; empty where there is no trigger, or none
	// was written down.
	TriggerHash string
	Seconds     float64
	Versions    map[string]string
}

// Firing reports whether the model is backdoored and its measured ASR is at
// least FiringASR.
func (r ModelResult) Firing() bool { return r.Backdoored && r.ASR >= FiringASR }

// DetectionCell names one detector with its settings on one model.
type DetectionCell struct {
	Key      string // identity; empty when planned: Key of model key, detector and settings
	ModelKey string
	Suite    string
	Detector string
	Settings map[string]any // everything that decides the verdict; read back, integers are int
	Order    int            // place in the suite's plan
}

// ReferenceCell names one clean reference and what a detector measures of it.
type ReferenceCell struct {
	Key      string // identity; empty when planned: see Identity
	Suite    string
	Dataset  string
	Learner  string
	Seed     int            // of the few-shot sample that the models have too
	Settings map[string]any // everything that decides the reference and its evidence; read back, integers are int
	Order    int            // place in the suite's plan
}

// ReferenceResult is what a reference left behind.
type ReferenceResult struct {
	Accuracy    float64 // on labelled images that it was not tuned on
	ImagePasses int64   // of measuring it
	Path        string  // where its evidence lies
	Hash        string  // SHA-256 of that file
	Seconds     float64
	Versions    map[string]string
}

// NoClass stands for the model as a whole where a detector looks at no classes.
const NoClass = -1

// ClassScore is what a detector found for one class, or for the model as a whole. Classes that it
// did not invert have none.
type ClassScore struct {
	Class   int     // or NoClass
	Loss    float64 // reconstruction loss on the measuring images
	ASR     float64 // success of the recovered trigger
	Score   float64 // the figure the index is computed from
	Index   float64 // anomaly index of the class
	Norm    float64 // size of the recovered trigger
	Reached bool    // whether the inversion reached its ASR bound
}

// DetectionResult is a detector's verdict on one model.
type DetectionResult struct {
	Index       float64 // anomaly index of the model: the score that AUROC ranks
	Backdoored  bool    // the verdict
	Suspect     int     // suspected target class, NoClass for none
	Unsure      string  // why the detector cannot tell; empty where it can
	Classes     []ClassScore
	ImagePasses int64 // images pushed through the image tower
	Seconds     float64
	Path        string // recovered triggers
	Hash        string // SHA-256 of their file; empty in a store from before there were any
	Versions    map[string]string
}

// ExplanationCell names one second look: the detection whose suspect it is about, and its settings.
type ExplanationCell struct {
	Key          string // identity; empty when planned: see Identity
	DetectionKey string
	Suite        string
	Settings     map[string]any // everything that decides it beside the detection; read back, integers are int
	Order        int            // place in the suite's plan
}

// FamilyEvidence is what speaks for one kind of trigger; see
// [clipinspector/inspector.FamilyFinding].
type FamilyEvidence struct {
	Kind            string
	Lift, Gain, ASR float64
}

// ExplanationResult says which kind of trigger a class answers to; see
// [clipinspector/inspector.Explanation]. Rates lie in [0,1]; NaN says that a figure does not exist.
type ExplanationResult struct {
	Class       int    // the one that was looked at
	Said        string // which kind explains it, "none" for none
	Strongest   string // kind of the recovered trigger
	Size        float64
	Anywhere    bool
	ASR         float64 // of the recovered trigger, on unseen pool images
	ZeroShot    float64 // of the same trigger, under zero-shot CLIP
	Others      float64 // of the same inversion, aimed at other classes: the largest
	Untouched   float64 // of the same inversion, on zero-shot CLIP
	PSNR, SSIM  float64
	IoU         float64 // overlap of a recovered patch with the true one; NaN where either is no patch
	Distance    float64 // of their centres, as a share of the image's side
	TrueSize    float64 // of the true patch, as Size; NaN where either is no patch
	TrueASR     float64 // of the true trigger, at the model's target, on the same pool images; NaN where there is none
	Families    []FamilyEvidence
	ImagePasses int64
	Path        string // the recovered trigger
	Hash        string // SHA-256 of its file
	Seconds     float64
	Versions    map[string]string
}

// RepairCell names one repair: the detection whose recovered trigger it uses, and its settings.
type RepairCell struct {
	Key          string // identity; empty when planned: see Identity
	DetectionKey string
	Suite        string
	Settings     map[string]any // everything that decides the repaired model beside the detection; read back, integers are int
	Order        int            // place in the suite's plan
}

// Arm is one model that a repair compares: the delivered one, or what came of it. Rates lie in
// [0,1]; NaN says that a figure does not exist.
type Arm struct {
	Name         string
	ACC          float64 // accuracy on clean test images
	ASR          float64 // success of the true trigger on test images of the other classes
	ASRAll       float64 // on all test images
	ASRRecovered float64 // success of the suspect's recovered trigger on test images of classes other than the suspect
}

// The arms of a repair. Repaired and control take the same steps from the delivered model, retuned
// takes them from fresh prompts on clean images; unlabelled is repaired on as many pool images as
// zero-shot CLIP labels them.
const (
	ArmDelivered  = "delivered"
	ArmRepaired   = "repaired"
	ArmControl    = "control"
	ArmRetuned    = "retuned"
	ArmUnlabelled = "unlabelled"
)

// Arms lists the arms in the order of the tables.
var Arms = []string{ArmDelivered, ArmRepaired, ArmControl, ArmRetuned, ArmUnlabelled}

// RepairResult is what a repair did.
type RepairResult struct {
	Arms     []Arm
	Path     string // where the repaired model lies
	Hash     string // SHA-256 of its file
	Seconds  float64
	Versions map[string]string
}

// Arm returns the arm of a name; ok is false when there is none.
func (r RepairResult) Arm(name string) (arm Arm, ok bool) {
	i := slices.IndexFunc(r.Arms, func(a Arm) bool { return a.Name == name })
	if i < 0 {
		return Arm{}, false
	}
	return r.Arms[i], true
}

// ModelRow, ReferenceRow, DetectionRow, ExplanationRow and RepairRow are cells with their states.
type (
	ModelRow     = Row[ModelCell, ModelResult]
	ReferenceRow = Row[ReferenceCell, ReferenceResult]
	DetectionRow = Row[DetectionCell, DetectionResult]
	RepairRow    = Row[RepairCell, RepairResult]

	ExplanationRow = Row[ExplanationCell, ExplanationResult]
)

var models = declaration[ModelCell, ModelResult]{
	family: family{kind: KindModel, named: "attack||' '||learner||' '||seed||' '||dataset", file: true},
	head:   func(c *ModelCell) head { return head{&c.Key, &c.Suite, &c.Order, &c.Settings} },
	own: []column[ModelCell]{
		// The same folder may be called otherwise elsewhere; the settings hold its identity.
		col("dataset", func(c *ModelCell) any { return &c.Dataset }).forPeople(),
		col("attack", func(c *ModelCell) any { return &c.Attack }),
		col("learner", func(c *ModelCell) any { return &c.Learner }),
		col("seed", func(c *ModelCell) any { return &c.Seed }),
	},
	result: []column[ModelResult]{
		col("backdoored", func(r *ModelResult) any { return &r.Backdoored }),
		col("target", func(r *ModelResult) any { return &r.Target }),
		col("classes", func(r *ModelResult) any { return &r.Classes }),
		col("acc", func(r *ModelResult) any { return &r.ACC }),
		col("asr", func(r *ModelResult) any { return &r.ASR }),
		col("asr_all", func(r *ModelResult) any { return &r.ASRAll }),
		col("asr_ood", func(r *ModelResult) any { return &r.ASROOD }),
		col("psnr", func(r *ModelResult) any { return &r.PSNR }),
		col("ssim", func(r *ModelResult) any { return &r.SSIM }),
		col("hash", func(r *ModelResult) any { return &r.Hash }),
		col("path", func(r *ModelResult) any { return &r.Path }).as(""),
		col("trigger_hash", func(r *ModelResult) any { return &r.TriggerHash }).as(""),
		col("seconds", func(r *ModelResult) any { return &r.Seconds }).as(""),
		col("versions", func(r *ModelResult) any { return &r.Versions }).as(""),
	},
	id: func(c *ModelCell) any { return nonNil(c.Settings) },
}

var references = declaration[ReferenceCell, ReferenceResult]{
	family: family{kind: KindReference, named: "learner||' '||seed||' '||dataset", file: true},
	head:   func(c *ReferenceCell) head { return head{&c.Key, &c.Suite, &c.Order, &c.Settings} },
	own: []column[ReferenceCell]{
		col("dataset", func(c *ReferenceCell) any { return &c.Dataset }).forPeople(),
		col("learner", func(c *ReferenceCell) any { return &c.Learner }),
		col("seed", func(c *ReferenceCell) any { return &c.Seed }),
	},
	result: []column[ReferenceResult]{
		col("accuracy", func(r *ReferenceResult) any { return &r.Accuracy }),
		col("image_passes", func(r *ReferenceResult) any { return &r.ImagePasses }),
		col("hash", func(r *ReferenceResult) any { return &r.Hash }),
		col("path", func(r *ReferenceResult) any { return &r.Path }).as(""),
		col("seconds", func(r *ReferenceResult) any { return &r.Seconds }).as(""),
		col("versions", func(r *ReferenceResult) any { return &r.Versions }).as(""),
	},
	id: func(c *ReferenceCell) any { return map[string]any{"reference": nonNil(c.Settings)} },
}

var detections = declaration[DetectionCell, DetectionResult]{
	family: family{kind: KindDetection, parent: KindModel, named: "detector", parts: "class_score"},
	head:   func(c *DetectionCell) head { return head{&c.Key, &c.Suite, &c.Order, &c.Settings} },
	own: []column[DetectionCell]{
		col("model", func(c *DetectionCell) any { return &c.ModelKey }),
		col("detector", func(c *DetectionCell) any { return &c.Detector }),
	},
	result: []column[DetectionResult]{
		col("idx", func(r *DetectionResult) any { return &r.Index }).as("index"),
		col("backdoored", func(r *DetectionResult) any { return &r.Backdoored }),
		col("suspect", func(r *DetectionResult) any { return &r.Suspect }),
		col("unsure", func(r *DetectionResult) any { return &r.Unsure }).unlessEmpty(),
		col("image_passes", func(r *DetectionResult) any { return &r.ImagePasses }),
		col("path", func(r *DetectionResult) any { return &r.Path }).as(""),
		col("hash", func(r *DetectionResult) any { return &r.Hash }).as(""),
		col("seconds", func(r *DetectionResult) any { return &r.Seconds }).as(""),
		col("versions", func(r *DetectionResult) any { return &r.Versions }).as(""),
	},
	parts: partsOf("class_score", "classes", func(r *DetectionResult) *[]ClassScore { return &r.Classes }, []column[ClassScore]{
		col("class", func(c *ClassScore) any { return &c.Class }),
		col("loss", func(c *ClassScore) any { return &c.Loss }),
		col("asr", func(c *ClassScore) any { return &c.ASR }),
		col("score", func(c *ClassScore) any { return &c.Score }),
		col("idx", func(c *ClassScore) any { return &c.Index }).as("index"),
		col("norm", func(c *ClassScore) any { return &c.Norm }),
		col("reached", func(c *ClassScore) any { return &c.Reached }),
	}),
	id: func(c *DetectionCell) any {
		return map[string]any{"model": c.ModelKey, "detector": c.Detector, "settings": nonNil(c.Settings)}
	},
}

var explanations = declaration[ExplanationCell, ExplanationResult]{
	family: family{kind: KindExplanation, parent: KindDetection, named: "''", parts: "family_evidence"},
	head:   func(c *ExplanationCell) head { return head{&c.Key, &c.Suite, &c.Order, &c.Settings} },
	own:    []column[ExplanationCell]{col("detection", func(c *ExplanationCell) any { return &c.DetectionKey })},
	result: []column[ExplanationResult]{
		col("class", func(r *ExplanationResult) any { return &r.Class }),
		col("said", func(r *ExplanationResult) any { return &r.Said }),
		col("strongest", func(r *ExplanationResult) any { return &r.Strongest }),
		col("size", func(r *ExplanationResult) any { return &r.Size }),
		col("anywhere", func(r *ExplanationResult) any { return &r.Anywhere }),
		col("asr", func(r *ExplanationResult) any { return &r.ASR }),
		col("zero_shot", func(r *ExplanationResult) any { return &r.ZeroShot }),
		col("others", func(r *ExplanationResult) any { return &r.Others }),
		col("untouched", func(r *ExplanationResult) any { return &r.Untouched }),
		col("psnr", func(r *ExplanationResult) any { return &r.PSNR }),
		col("ssim", func(r *ExplanationResult) any { return &r.SSIM }),
		col("iou", func(r *ExplanationResult) any { return &r.IoU }),
		col("distance", func(r *ExplanationResult) any { return &r.Distance }),
		col("true_size", func(r *ExplanationResult) any { return &r.TrueSize }),
		col("true_asr", func(r *ExplanationResult) any { return &r.TrueASR }),
		col("image_passes", func(r *ExplanationResult) any { return &r.ImagePasses }),
		col("hash", func(r *ExplanationResult) any { return &r.Hash }),
		col("path", func(r *ExplanationResult) any { return &r.Path }).as(""),
		col("seconds", func(r *ExplanationResult) any { return &r.Seconds }).as(""),
		col("versions", func(r *ExplanationResult) any { return &r.Versions }).as(""),
	},
	parts: partsOf("family_evidence", "families", func(r *ExplanationResult) *[]FamilyEvidence { return &r.Families }, []column[FamilyEvidence]{
		col("kind", func(f *FamilyEvidence) any { return &f.Kind }),
		col("lift", func(f *FamilyEvidence) any { return &f.Lift }),
		col("gain", func(f *FamilyEvidence) any { return &f.Gain }),
		col("asr", func(f *FamilyEvidence) any { return &f.ASR }),
	}),
	id: func(c *ExplanationCell) any {
		return map[string]any{"detection": c.DetectionKey, "explain": nonNil(c.Settings)}
	},
}

var repairs = declaration[RepairCell, RepairResult]{
	family: family{kind: KindRepair, parent: KindDetection, named: "''", parts: "repair_arm"},
	head:   func(c *RepairCell) head { return head{&c.Key, &c.Suite, &c.Order, &c.Settings} },
	own:    []column[RepairCell]{col("detection", func(c *RepairCell) any { return &c.DetectionKey })},
	result: []column[RepairResult]{
		col("hash", func(r *RepairResult) any { return &r.Hash }),
		col("path", func(r *RepairResult) any { return &r.Path }).as(""),
		col("seconds", func(r *RepairResult) any { return &r.Seconds }).as(""),
		col("versions", func(r *RepairResult) any { return &r.Versions }).as(""),
	},
	parts: partsOf("repair_arm", "arms", func(r *RepairResult) *[]Arm { return &r.Arms }, []column[Arm]{
		col("name", func(a *Arm) any { return &a.Name }),
		col("acc", func(a *Arm) any { return &a.ACC }),
		col("asr", func(a *Arm) any { return &a.ASR }),
		col("asr_all", func(a *Arm) any { return &a.ASRAll }),
		col("asr_recovered", func(a *Arm) any { return &a.ASRRecovered }),
	}),
	id: func(c *RepairCell) any {
		return map[string]any{"detection": c.DetectionKey, "repair": nonNil(c.Settings)}
	},
}

func nonNil(m map[string]any) map[string]any {
	if m == nil {
		return map[string]any{}
	}
	return m
}

// Counts says how many cells are in which state; Pending includes the Leased
// ones, and Blocked counts the pending detections whose model has failed.
// Seconds are those of the finished ones, together.
type Counts struct {
	Planned, Finished, Failed, Pending, Leased, Blocked int
	Seconds                                             float64
}

// Left is how long the pending cells would take one after the other, as the finished ones took; 0
// where none is finished.
func (c Counts) Left() time.Duration {
	return time.Duration(c.Seconds / float64(max(1, c.Finished)) * float64(c.Pending-c.Blocked) * float64(time.Second))
}

// Progress is the state of a suite.
type Progress struct {
	Models, References, Detections, Explanations, Repairs Counts
}

// total sums a count over the kinds of cells.
func (p Progress) total(of func(c Counts) int) int {
	n := 0
	for _, c := range []Counts{p.Models, p.References, p.Detections, p.Explanations, p.Repairs} {
		n += of(c)
	}
	return n
}

// Open counts the cells that are not finished.
func (p Progress) Open() int { return p.total(func(c Counts) int { return c.Planned - c.Finished }) }

// Leased counts the cells that somebody works on.
func (p Progress) Leased() int { return p.total(func(c Counts) int { return c.Leased }) }

// Failed counts the cells that failed.
func (p Progress) Failed() int { return p.total(func(c Counts) int { return c.Failed }) }

// Left is how long all pending cells would take one after the other: see [Counts.Left].
func (p Progress) Left() time.Duration {
	return time.Duration(p.total(func(c Counts) int { return int(c.Left()) }))
}

// Lease says who works on a cell.
type Lease struct {
	Kind   Kind
	Key    string
	Worker string
	Until  time.Time
}

// Done reports whether nothing is left that a worker could do in this run.
func (p Progress) Done() bool {
	return p.Models.Pending == 0 && p.References.Pending == 0 && p.Detections.Pending == p.Detections.Blocked &&
		p.Explanations.Pending == p.Explanations.Blocked && p.Repairs.Pending == p.Repairs.Blocked
}

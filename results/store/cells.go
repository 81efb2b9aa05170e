package store

import "time"

// Kind says which of the three kinds of cells is meant.
type Kind string

// The kinds of cells: a model, a detector's look at it, and a repair with what that recovered.
const (
	KindModel     Kind = "model"
	KindDetection Kind = "detection"
	KindRepair    Kind = "repair"
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
	Seconds    float64
	Versions   map[string]string
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

// NoClass stands for the model as a whole where a detector looks at no classes.
const NoClass = -1

// ClassScore is what a detector found for one class, or for the model as a whole. Classes that it did not invert have none.
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
	Classes     []ClassScore
	ImagePasses int64 // images pushed through the image tower
	Seconds     float64
	Path        string // recovered triggers
	Versions    map[string]string
}

// ModelRow is a model cell with its state; Result is meaningful when State is
// Finished, Message when it is or was Failed.
type ModelRow struct {
	Cell     ModelCell
	State    State
	Attempts int // leases given so far
	Failures int
	Message  string
	Result   ModelResult
}

// DetectionRow is a detection cell with its state.
type DetectionRow struct {
	Cell     DetectionCell
	State    State
	Attempts int
	Failures int
	Message  string
	Result   DetectionResult
}

// Counts says how many cells are in which state; Pending includes the Leased
// ones, and Blocked counts the pending detections whose model has failed.
type Counts struct {
	Planned, Finished, Failed, Pending, Leased, Blocked int
}

// Progress is the state of a suite.
type Progress struct {
	Models, Detections, Repairs Counts
}

// Done reports whether nothing is left that a worker could do in this run.
func (p Progress) Done() bool {
	return p.Models.Pending == 0 && p.Detections.Pending == p.Detections.Blocked && p.Repairs.Pending == p.Repairs.Blocked
}

// Package experiments turns a suite into verdicts.
//
// Package suite reads the suite, and package world opens its data, pool and encoder. NewPlan makes
// a plan of the two: the cells. A model cell is one prompt-tuned model, a detection cell one
// detector on one model. References, explanations and repairs are cells, too. The identity of a
// cell names everything that decides its outcome.
//
// Run leases the cells of the plan from the store one by one, runs them, and writes down what they
// leave behind. Any number of workers and processes may do so at once. A run that was killed goes
// on where it was.
//
// A cell's seed decides everything in it. So the export of a suite is the same bytes for any number
// of threads, workers and stops, on any processor.
package experiments

// modelVersion is raised when the same settings give another model: it is part of every model
// cell's identity.
const modelVersion = 3

// referenceVersion is raised when the same settings give another reference, or other evidence of
// it: it is part of every reference's identity.
const referenceVersion = 1

// foreignVersion is raised when references from the pool judge the same model otherwise: it is part
// of the identity of the detections that take such references.
const foreignVersion = 2

// detectionVersion is raised when the same detector settings give another verdict on the same
// model: it is part of every detection cell's identity.
const detectionVersion = 3

// explanationVersion is raised when the same settings explain the same detection otherwise: it is
// part of every explanation cell's identity.
const explanationVersion = 3

// repairVersion is raised when the same settings repair the same model with the same trigger
// otherwise: it is part of every repair cell's identity.
const repairVersion = 4

// Package store keeps what a suite planned and found.
//
// The store is one SQLite file in WAL mode that several processes share. It
// holds three kinds of cells. A model cell is one prompt-tuned model: dataset,
// attack, learner, seed and every other setting. A detection cell is one
// detector with its settings on one model. A repair cell is one repair with
// what a detection recovered. Workers lease cells one by one,
// renew the lease while they compute, and finish or fail the cell; a worker
// that dies loses its lease after the time it asked for, and the cell is leased
// again. Everything a cell leaves behind is written in one transaction, so a
// killed process leaves a cell either finished or untouched.
//
// Export writes the scores, settings and verdicts as canonical bytes.
//
// Numbers that do not exist are NaN in Go, NULL in the store and null in JSON.
package store

// Package store keeps what a suite planned and found.
//
// The store is one SQLite file in WAL mode that several processes share. It holds cells. A model
// cell is one prompt-tuned model: dataset, attack, learner, seed and every other setting. A
// reference cell is one clean reference. A detection cell is one detector with its settings on one
// model. An explanation cell says which kind of trigger a detection's suspect answers to. A repair
// cell is one repair with what a detection recovered.
//
// Workers lease cells one by one, renew the lease while they compute, and finish or fail the cell.
// If a worker dies, its lease ends after the time that it asked for, and the cell is leased again.
// Everything that a cell leaves behind is written in one transaction. So a killed process leaves a
// cell either finished or untouched.
//
// Export writes the scores, settings and verdicts as canonical bytes.
//
// Numbers that do not exist are NaN in Go, NULL in the store and null in JSON.
package store

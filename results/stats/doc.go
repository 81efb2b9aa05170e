// Package stats measures detectors, attacks and repairs: AUROC and ROC curves with bootstrap
// intervals, rates with Wilson intervals, and the summary of a suite that tables and plots show.
//
// Numbers that do not exist are NaN in Go and null in JSON.
package stats

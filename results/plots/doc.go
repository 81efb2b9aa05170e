// Package plots draws the figures of a suite, as PNG and SVG: ROC curves, accuracies, models,
// anomaly indices, losses, thresholds, sweeps, and a gallery of triggers. The same store gives the
// same bytes. Package stats measures; this package only draws.
package plots

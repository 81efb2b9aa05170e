// Package tables prints the summary of a suite as Markdown, CSV, LaTeX and JSON.
package tables

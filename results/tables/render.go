package tables

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"clipinspector/results/stats"
)

// Formats are the formats that Render knows.
var Formats = []string{"markdown", "csv", "latex", "json", "parquet"}

// Render writes the tables of a summary in one of Formats.
func Render(w io.Writer, sum *stats.Summary, format string) error {
	var buf bytes.Buffer
	var err error
	switch format {
	case "markdown":
		writeMarkdown(&buf, sum)
	case "csv":
		err = writeCSV(&buf, sum)
	case "latex":
		writeLaTeX(&buf, sum)
	case "json":
		err = writeJSON(&buf, sum)
	case "parquet":
		err = writeParquet(&buf, sum)
	default:
		err = fmt.Errorf("no table format is called %q; there are: %s", format, strings.Join(Formats, ", "))
	}
	if err != nil {
		return err
	}
	_, err = w.Write(buf.Bytes())
	return err
}

func writeJSON(buf *bytes.Buffer, sum *stats.Summary) error {
	enc := json.NewEncoder(buf)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(sum)
}

package progress

import (
	"encoding/json"
	"io"
	"strings"
	"sync"
)

// Events is a writer of progress for other programs: one JSON object a line. Text that is written
// becomes {"line": TEXT}.
type Events struct {
	mu sync.Mutex
	to io.Writer
}

// NewEvents returns Events that go to w.
func NewEvents(w io.Writer) *Events { return &Events{to: w} }

// Event is how far one task has come.
type Event struct {
	What  string `json:"what"`
	Done  int    `json:"done"`
	Total int    `json:"total"`
	Text  string `json:"text,omitempty"` // the same in more words
}

// Write implements io.Writer.
func (e *Events) Write(text []byte) (int, error) {
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		if err := e.put(map[string]string{"line": line}); err != nil {
			return 0, err
		}
	}
	return len(text), nil
}

// Tell writes an event. A reader that is gone has nobody to be told to.
func (e *Events) Tell(v Event) { _ = e.put(v) }

func (e *Events) put(v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	_, err = e.to.Write(append(raw, '\n'))
	return err
}

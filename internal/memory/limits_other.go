//go:build !linux

package memory

type limit struct {
	limit int64
	used  string
}

func limits() []limit { return nil }

package memory

import (
	"math"
	"syscall"
)

// limit is one that a shell's ulimit sets, with the field of /proc/self/status that it bounds.
type limit struct {
	limit int64
	used  string
}

func limits() (set []limit) {
	for _, of := range []struct {
		kind int
		used string
	}{{syscall.RLIMIT_AS, "VmSize:"}, {syscall.RLIMIT_DATA, "VmData:"}} {
		var l syscall.Rlimit
		if syscall.Getrlimit(of.kind, &l) == nil && l.Cur < math.MaxInt64 {
			set = append(set, limit{int64(l.Cur), of.used})
		}
	}
	return set
}

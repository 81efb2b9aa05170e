package cmd

import (
	"fmt"
	"syscall"

	"golang.org/x/sys/unix"
)

// leastSpace is how much address space the program takes at least, most of it never touched.
const leastSpace = 2 << 30

// enoughSpace refuses a limit of the address space (ulimit -v) in which Go's runtime would abort in the middle of the work, with a status that
// would be taken for a verdict.
func enoughSpace() error {
	var limit unix.Rlimit
	if err := unix.Getrlimit(syscall.RLIMIT_AS, &limit); err != nil || limit.Cur >= leastSpace {
		return nil // a limit that cannot be read is none
	}
	return fmt.Errorf("the address space is limited to %d MB, and the program takes %d MB at least: raise the limit (ulimit -v)", limit.Cur>>20, leastSpace>>20)
}

// Package memory tells how much memory a process may still take.
package memory

import (
	"bufio"
	"errors"
	"fmt"
	"math"
	"os"
	"path"
	"strconv"
	"strings"
)

// ErrShort says that something would take more memory than is free.
var ErrShort = errors.New("too little memory")

// Check refuses what takes more bytes than are free, before the system ends the process for it.
// Little is never refused.
func Check(what string, bytes int64) error {
	const little = 16 << 20
	if bytes < little {
		return nil
	}
	if free := Free(); bytes > free {
		return fmt.Errorf("%w: %s would take %d MB, and %d MB are free", ErrShort, what, bytes>>20, max(0, free)>>20)
	}
	return nil
}

// Free returns how many bytes the process may still take: what the kernel calls available, and no
// more than control groups and limits leave. It is math.MaxInt64 where nothing tells.
func Free() int64 { return freeBelow("/") }

// freeBelow is Free with the system's files below a folder.
func freeBelow(root string) int64 {
	free := int64(math.MaxInt64)
	atMost := func(n int64, ok bool) {
		if ok {
			free = min(free, n)
		}
	}
	atMost(field(root+"proc/meminfo", "MemAvailable:", 1<<10))
	for _, l := range limits() {
		used, ok := field(root+"proc/self/status", l.used, 1<<10)
		atMost(l.limit-used, ok)
	}
	for dir := range groups(root) {
		for _, names := range [][3]string{{"memory.max", "memory.current", "inactive_file"},
			{"memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"}} {
			limit, ok := number(dir + "/" + names[0])
			used, known := number(dir + "/" + names[1])
			cache, _ := field(dir+"/memory.stat", names[2], 1) // given back before anybody is ended
			atMost(limit-used+cache, ok && known)
		}
	}
	return free
}

// groups yields the folders of the control groups that may bound the process's memory: its own, and
// those above. In a container only the last may be there.
func groups(root string) func(yield func(dir string) bool) {
	return func(yield func(string) bool) {
		text, err := os.ReadFile(root + "proc/self/cgroup")
		if err != nil {
			return
		}
		for line := range strings.Lines(string(text)) { // 0::/path, or of version 1: 4:memory:/path
			part := strings.SplitN(strings.TrimSpace(line), ":", 3)
			if len(part) != 3 {
				continue
			}
			mount := "sys/fs/cgroup"
			switch part[1] {
			case "":
			case "memory":
				mount += "/memory"
			default:
				continue
			}
			for at := path.Clean("/" + part[2]); ; at = path.Dir(at) {
				if !yield(root + mount + at) {
					return
				}
				if at == "/" {
					break
				}
			}
		}
	}
}

// number reads a file that holds one number; "max" is none.
func number(file string) (int64, bool) {
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return n, err == nil
}

// field reads the number behind a name that begins a line, in units of so many bytes.
func field(file, name string, unit int64) (int64, bool) {
	f, err := os.Open(file)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if words := strings.Fields(lines.Text()); len(words) >= 2 && words[0] == name {
			n, err := strconv.ParseInt(words[1], 10, 64)
			return n * unit, err == nil
		}
	}
	return 0, false
}

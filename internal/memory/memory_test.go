package memory

import (
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"
)

// system lays files out below a folder as the kernel shows them.
func system(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		file := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root + "/"
}

func TestFreeIsWhatTheTightestBoundLeaves(t *testing.T) {
	const meminfo = "MemTotal:       24684052 kB\nMemFree:         1000000 kB\nMemAvailable:    8000000 kB\n"
	for _, c := range []struct {
		name  string
		files map[string]string
		want  int64
	}{
		{"nothing tells", nil, math.MaxInt64},
		{"the machine", map[string]string{"proc/meminfo": meminfo}, 8_000_000 << 10},
		{"a group without a limit", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/a/b\n",
			"sys/fs/cgroup/a/b/memory.max": "max\n", "sys/fs/cgroup/a/b/memory.current": "5\n"}, 8_000_000 << 10},
		{"the group above, whose cache counts as free", map[string]string{"proc/meminfo": meminfo, "proc/self/cgroup": "0::/a/b\n",
			"sys/fs/cgroup/a/memory.max": "2000000000\n", "sys/fs/cgroup/a/memory.current": "1500000000\n",
			"sys/fs/cgroup/a/memory.stat": "anon 7\ninactive_file 200000000\n"}, 700_000_000},
		{"a container that does not see its path", map[string]string{"proc/self/cgroup": "0::/far/away\n",
			"sys/fs/cgroup/memory.max": "1000\n", "sys/fs/cgroup/memory.current": "400\n"}, 600},
		{"version 1", map[string]string{"proc/self/cgroup": "5:cpu:/x\n4:memory:/x\n",
			"sys/fs/cgroup/memory/x/memory.limit_in_bytes": "1000\n", "sys/fs/cgroup/memory/x/memory.usage_in_bytes": "900\n",
			"sys/fs/cgroup/memory/x/memory.stat": "total_inactive_file 50\n"}, 150},
	} {
		if got := freeBelow(system(t, c.files)); got != c.want {
			t.Errorf("%s: %d bytes are free, want %d", c.name, got, c.want)
		}
	}
}

func TestCheckRefusesMoreThanIsFree(t *testing.T) {
	if err := Check("a pool", 1<<60); !errors.Is(err, ErrShort) {
		t.Errorf("2^60 bytes: %v", err)
	}
	if err := Check("a pool", 1<<20); err != nil {
		t.Error(err)
	}
}

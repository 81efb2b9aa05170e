package store

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// networkMagic are the numbers by which Linux tells file systems (statfs(2) and the kernel's
// magic.h) that machines share or that a program serves. Their locks are not to be trusted, and WAL
// needs shared memory.
var networkMagic = map[uint32]string{
	0x6969: "NFS", 0x517b: "SMB", 0xff534d42: "CIFS", 0xfe534d42: "SMB", 0x0bd00bd0: "Lustre", 0x47504653: "GPFS",
	0x65735546: "FUSE", 0x01021997: "9p", 0x00c36400: "CephFS", 0x19830326: "BeeGFS", 0x5346414f: "AFS",
	0x7461636f: "OCFS2", 0x01161970: "GFS2",
}

// networkFS names the network file system that a folder lies on; empty for a local one.
var networkFS = func(folder string) string { // replaced by tests
	var st unix.Statfs_t
	if unix.Statfs(folder, &st) != nil {
		return ""
	}
	return networkMagic[uint32(st.Type)]
}

// writable tells whether this process may write the file and its folder.
var writable = func(path string) bool {
	return unix.Access(filepath.Dir(path), unix.W_OK) == nil && unix.Access(path, unix.W_OK) == nil
}

// holders names the other processes of this user and machine that have the file open.
func holders(path string) string {
	path, err := filepath.EvalSymlinks(path)
	if err != nil {
		return ""
	}
	links, _ := filepath.Glob("/proc/[0-9]*/fd/*") // the pattern is well formed
	var out []string
	for _, link := range links {
		to, err := os.Readlink(link)
		if err != nil || strings.TrimSuffix(strings.TrimSuffix(to, "-wal"), "-shm") != path {
			continue
		}
		pid := strings.Split(link, "/")[2]
		if pid == fmt.Sprint(os.Getpid()) {
			continue
		}
		name, _ := os.ReadFile("/proc/" + pid + "/comm") // gone, perhaps
		if who := fmt.Sprintf("%q (process %s)", strings.TrimSpace(string(name)), pid); !slices.Contains(out, who) {
			out = append(out, who)
		}
	}
	return strings.Join(out, ", ")
}

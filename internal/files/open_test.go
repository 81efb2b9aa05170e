package files

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Nothing but a regular file is opened, and nobody waits for it.
func TestOnlyRegularFiles(t *testing.T) {
	dir := t.TempDir()
	file, pipe, link := filepath.Join(dir, "file"), filepath.Join(dir, "pipe"), filepath.Join(dir, "link")
	if err := os.WriteFile(file, []byte("12345"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(pipe, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(pipe, link); err != nil {
		t.Fatal(err)
	}
	socket, err := net.Listen("unix", filepath.Join(dir, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	for path, want := range map[string]string{pipe: "a pipe", link: "a pipe", dir: "a folder", "/dev/zero": "a device", file + "2": "no such file",
		filepath.Join(dir, "socket"): "a socket"} {
		done := make(chan error, 1)
		go func() {
			_, err := Read(path, 1<<10)
			done <- err
		}()
		select {
		case err := <-done:
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
				t.Errorf("%s: %v, want an error that says %q", path, err, want)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("%s: waits", path)
		}
	}
	if b, err := Read(file, 5); err != nil || string(b) != "12345" {
		t.Errorf("a file of 5 bytes: %q, %v", b, err)
	}
	if _, err := Read(file, 4); err == nil || !strings.Contains(err.Error(), "larger than 4 bytes") {
		t.Errorf("a file of 5 bytes where 4 are allowed: %v", err)
	}
}

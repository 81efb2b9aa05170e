package experiments

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// syncAll puts everything that was written to the file system of a folder on the disk.
func syncAll(folder string) error {
	f, err := os.Open(folder)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := unix.Syncfs(int(f.Fd())); err != nil {
		return fmt.Errorf("syncing %s: %w", folder, err)
	}
	return nil
}

package datasets

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// shades writes n one-coloured pictures for each class below a folder.
func shades(t *testing.T, folder string, n int, classes ...string) {
	t.Helper()
	for c, class := range classes {
		for i := range n {
			writePNG(t, filepath.Join(folder, class, fmt.Sprintf("%02d.png", i)), uint8(1+9*i+c))
		}
	}
}

func folderAt(t *testing.T, folder string) *fileSet {
	t.Helper()
	ds, err := openFolder("folder:"+folder, folder)
	if err != nil {
		t.Fatal(err)
	}
	return ds
}

// Identity is content: neither path nor time, but names and every byte.
func TestIdentityIsContent(t *testing.T) {
	a, b := filepath.Join(t.TempDir(), "a"), filepath.Join(t.TempDir(), "else", "where")
	shades(t, a, 4, "red", "green")
	shades(t, b, 4, "red", "green")
	old := time.Now().Add(-time.Hour)
	if err := os.Chtimes(filepath.Join(b, "red", "00.png"), old, old); err != nil {
		t.Fatal(err)
	}
	x, y := folderAt(t, a), folderAt(t, b)
	if x.Fingerprint() != y.Fingerprint() || Identity(x) != Identity(y) || strings.Contains(Identity(x), "/") {
		t.Errorf("the same pictures at two paths: %s and %s", Identity(x), Identity(y))
	}
	px, err := openFolderPool("folder:"+a, a)
	py, err2 := openFolderPool(b, b)
	if err != nil || err2 != nil || px.Fingerprint() != py.Fingerprint() || Identity(px) != Identity(py) {
		t.Errorf("the same pool at two paths: %v %v", err, err2)
	}
	// The same length, other bytes.
	file := filepath.Join(b, "red", "00.png")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	data[len(data)-1] ^= 1
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	if folderAt(t, b).Fingerprint() == x.Fingerprint() {
		t.Error("another byte, the same fingerprint")
	}
	if p, err := openFolderPool(b, b); err != nil || p.Fingerprint() == px.Fingerprint() {
		t.Error("another byte, the same fingerprint of the pool")
	}
	if err := os.Rename(filepath.Join(a, "red"), filepath.Join(a, "rot")); err != nil {
		t.Fatal(err)
	}
	if folderAt(t, a).Fingerprint() == x.Fingerprint() {
		t.Error("another class name, the same fingerprint")
	}
}

// Names that say no path go into draws as they are, so that the grids of before stay the same
// bytes.
func TestNamedSetsKeepTheirIdentity(t *testing.T) {
	ds, err := Open("mini-eurosat", Options{})
	if err != nil || Identity(ds) != "mini-eurosat" {
		t.Errorf("%v, %v", ds, err)
	}
	for name, want := range map[string]string{
		"mini":     "c551562becea46602851625b1b0fb700dcd1711d8115564a4cae9804f27dcedd",
		"textures": "cc2807104577f08f10cda5aa471eee587df43704e5bfdfccf4d30be072a6e0a9",
		"noise":    "e54710acc6dc17afe5afeb6907b4022fb659dd2641db244489e283da6c4b847f",
	} {
		p, err := OpenPool(name, Options{})
		if err != nil || Identity(p) != name || p.Fingerprint() != want {
			t.Errorf("pool %s: fingerprint %s, want %s, %v", name, p.Fingerprint(), want, err)
		}
	}
	if got, want := ds.Fingerprint(), "861cb039e2e110fe595509958769927292ba64c1540ea0cc289f744c18df401c"; got != want {
		t.Errorf("mini-eurosat: fingerprint %s, want %s", got, want)
	}
}

// A file that changes after it was hashed is not read as if it were the one that the identity
// names.
func TestFilesThatChangeUnderARun(t *testing.T) {
	folder := t.TempDir()
	shades(t, folder, 4, "red", "green")
	ds := folderAt(t, folder)
	if err := Hash(context.Background(), ds, nil); err != nil {
		t.Fatal(err)
	}
	if _, err := ds.Image(Train, 0); err != nil {
		t.Fatal(err)
	}
	writePNG(t, ds.path(Train, 0), 200)
	if _, err := ds.Image(Train, 0); err == nil || !strings.Contains(err.Error(), "changed") {
		t.Errorf("a changed file: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := Hash(ctx, folderAt(t, folder), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("stopped: %v", err)
	}
}

// Sums are remembered only of files that lie untouched.
func TestRememberedSums(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x")
	for i := range 50 { // faster than the clock of the file system
		text := fmt.Sprintf("%02d", i)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		first, err := hashFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte("zz"), 0o644); err != nil {
			t.Fatal(err)
		}
		if second, err := hashFile(file); err != nil || second == first {
			t.Fatalf("round %d: the sum of the bytes of before, %v", i, err)
		}
	}
}

// Nothing vanishes without a word.
func TestWhatAFolderLeavesOut(t *testing.T) {
	root, outside := t.TempDir(), t.TempDir()
	shades(t, root, 4, "green", "red")
	shades(t, outside, 3, "x")
	shades(t, root, 3, "red/batch")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.Symlink(filepath.Join(root, "red", "batch"), filepath.Join(root, "green", "linked")))
	must(os.Symlink(filepath.Join(outside, "x"), filepath.Join(root, "green", "elsewhere")))
	must(os.Symlink("..", filepath.Join(root, "green", "up")))
	must(os.Symlink("nowhere", filepath.Join(root, "green", "gone.png")))
	must(syscall.Mkfifo(filepath.Join(root, "green", "pipe.png"), 0o644))
	must(os.WriteFile(filepath.Join(root, "red", "a.heic"), []byte("x"), 0o644))
	must(os.WriteFile(filepath.Join(root, "red", "notes.txt"), []byte("x"), 0o644))
	ds := folderAt(t, root)
	if n := ds.Len(Train) + ds.Len(Val) + ds.Len(Test); n != 4+3+4+3 || !slices.Equal(ds.Classes(), []string{"green", "red"}) {
		t.Errorf("%d pictures of %q", n, ds.Classes())
	}
	got := strings.Join(LeftOut(Limit(ds, Test, 1)), "\n")
	for _, want := range []string{"1 .heic files (a format that is not read here", "1 .txt files (no pictures)", "green/elsewhere: a link that leads out of the folder",
		"green/up: a link that leads back", "green/gone.png: a link that leads nowhere", "green/pipe.png: not a regular file"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not said in:\n%s", want, got)
		}
	}
	if n := strings.Count(got, "\n") + 1; n != 6 {
		t.Errorf("%d notes:\n%s", n, got)
	}
	pool, err := openFolderPool("folder:"+root, root)
	if err != nil || len(LeftOut(pool)) != 7 {
		t.Errorf("pool: %q, %v", LeftOut(pool), err)
	}
}

func TestClassesWithoutPicturesAreRefusedByName(t *testing.T) {
	root := t.TempDir()
	shades(t, root, 4, "green", "red")
	if err := os.MkdirAll(filepath.Join(root, "blue"), 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := openFolder("x", root); err == nil || !strings.Contains(err.Error(), "folder blue holds no pictures") {
		t.Errorf("an empty folder: %v", err)
	}
	if err := os.WriteFile(filepath.Join(root, "blue", "a.avif"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := openFolder("x", root); err == nil || !strings.Contains(err.Error(), "1 .avif files (a format that is not read here") {
		t.Errorf("a format that is not read: %v", err)
	}
}

func TestSplitFolders(t *testing.T) {
	for _, c := range []struct {
		folders []string
		counts  [3]int
		note    string
	}{
		{[]string{"train", "val", "test"}, [3]int{8, 8, 8}, ""},
		{[]string{"Training", "Validation", "Testing"}, [3]int{8, 8, 8}, ""},
		{[]string{"train", "valid"}, [3]int{8, 0, 8}, "the pictures of valid are the test split"},
		{[]string{"train", "test"}, [3]int{8, 0, 8}, ""},
	} {
		root := t.TempDir()
		for _, f := range c.folders {
			shades(t, filepath.Join(root, f), 4, "red", "green")
		}
		ds := folderAt(t, root)
		if got := [3]int{ds.Len(Train), ds.Len(Val), ds.Len(Test)}; got != c.counts || !slices.Equal(ds.Classes(), []string{"green", "red"}) {
			t.Errorf("%v: %v pictures of %q", c.folders, got, ds.Classes())
		}
		if notes := strings.Join(LeftOut(ds), "\n"); !strings.Contains(notes, c.note) || c.note == "" && notes != "" {
			t.Errorf("%v: %q", c.folders, notes)
		}
		if i := ds.Len(Train) - 1; !strings.HasPrefix(ds.items[Train][i].Path, c.folders[0]+"/red/") {
			t.Errorf("%v: the last training picture is %s", c.folders, ds.items[Train][i].Path)
		}
	}
	root := t.TempDir()
	shades(t, filepath.Join(root, "train"), 4, "red", "green")
	shades(t, filepath.Join(root, "val"), 4, "red", "green", "blue")
	if _, err := openFolder("x", root); err == nil || !strings.Contains(err.Error(), "classes without pictures in train: blue") {
		t.Errorf("a class that train lacks: %v", err)
	}
	// Vehicles: a class may be called train.
	root = t.TempDir()
	shades(t, root, 4, "bus", "train")
	if ds := folderAt(t, root); !slices.Equal(ds.Classes(), []string{"bus", "train"}) {
		t.Errorf("classes %q", ds.Classes())
	}
	root = t.TempDir()
	shades(t, root, 4, "test", "train")
	if _, err := openFolder("x", root); err == nil || !strings.Contains(err.Error(), "called like splits") {
		t.Errorf("pictures without class folders: %v", err)
	}
	// Folders of the same folders: which are the classes?
	for _, outer := range [][]string{{"fold1", "fold2"}, {"seg_test", "seg_train"}, {"cat", "dog", "pug"}} {
		root = t.TempDir()
		for _, f := range outer {
			shades(t, filepath.Join(root, f), 4, "train", "x")
		}
		want := "the folders " + strings.Join(outer, ", ") + " all hold the folders train, x"
		if _, err := openFolder("x", root); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want that %s", err, want)
		}
	}
	root = t.TempDir() // and of others, or of one
	shades(t, filepath.Join(root, "cat"), 4, "siamese", "tabby", "images")
	shades(t, filepath.Join(root, "dog"), 4, "pug", "images")
	if ds := folderAt(t, root); !slices.Equal(ds.Classes(), []string{"cat", "dog"}) {
		t.Errorf("classes %q", ds.Classes())
	}
}

// Pipes and devices are refused without waiting for somebody at the other end.
func TestPipesAndDevices(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "a.png")
	if err := syscall.Mkfifo(pipe, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{pipe, "/dev/zero", t.TempDir()} {
		done := make(chan error, 3)
		go func() {
			_, err := readImage(path)
			done <- err
			_, err = readSmall(path, 100)
			done <- err
			_, err = hashFile(path)
			done <- err
		}()
		for range 3 {
			select {
			case err := <-done:
				if err == nil || !strings.Contains(err.Error(), "not a regular file") {
					t.Errorf("%s: %v", path, err)
				}
			case <-time.After(5 * time.Second):
				t.Fatalf("%s: still waiting", path)
			}
		}
	}
}

// What is wrong with several pictures is said at once, in the order of the list.
func TestUnreadableListsAll(t *testing.T) {
	get := func(i int) (*RGB, error) {
		if i%10 == 3 {
			return nil, fmt.Errorf("picture %d", i)
		}
		return hashPicture(8, 8), nil
	}
	errs, err := Unreadable(context.Background(), get, All(40), nil)
	if err != nil || fmt.Sprint(errs) != "[picture 3 picture 13 picture 23 picture 33]" {
		t.Errorf("%v, %v", errs, err)
	}
	if got := Joined(errs).Error(); got != "4 pictures cannot be read:\n  picture 3\n  picture 13\n  picture 23\n  picture 33" {
		t.Errorf("%s", got)
	}
}

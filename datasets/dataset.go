// Package datasets reads labelled image classification sets and pools of unlabelled pictures. It
// draws few-shot samples exactly as CoOp does (Zhou et al., IJCV 2022). It preprocesses pictures
// exactly as CLIP does (Radford et al., ICML 2021; PIL's bicubic resampler). Each family of sets
// has one file: mini.go, coop.go, aircraft.go, folder.go.
package datasets

import (
	"errors"
	"fmt"
	"image"
	"strings"
)

// Split names one of the three parts of a dataset.
type Split string

// The three splits every dataset has.
const (
	Train Split = "train"
	Val   Split = "val"
	Test  Split = "test"
)

// Splits lists the three splits in their fixed order.
var Splits = []Split{Train, Val, Test}

// Dataset is a labelled image classification set with three splits. Implementations are safe for
// concurrent use.
type Dataset interface {
	// Name returns the name under which the set was opened, for instance "caltech101".
	Name() string
	// Classes returns the raw class names by label, as the split file spells them. Callers must not
	// change the slice. PromptName turns one of them into the words that go into a prompt.
	Classes() []string
	// Template returns CLIP's zero-shot prompt for the set, with one "{}" where the class name
	// goes.
	Template() string
	// Len returns the number of images of a split; 0 for an unknown split.
	Len(split Split) int
	// Label returns the label, in [0, len(Classes())), of image i of a split. It panics when i is
	// out of range.
	Label(split Split, i int) int
	// Image decodes image i of a split. Errors name the file and the reason; an index out of range
	// is an error too.
	Image(split Split, i int) (*RGB, error)
	// Fingerprint returns a sha256 in hexadecimal that changes when class names, labels, the order,
	// or the names below the image folder or bytes of the files change (for rendered sets: the
	// world's version, seed or image size). It does not depend on where the files lie.
	Fingerprint() string
}

// Pool is a set of unlabelled pictures. Implementations are safe for concurrent use.
type Pool interface {
	// Name returns the name under which the pool was opened.
	Name() string
	// Len returns the number of pictures.
	Len() int
	// Image returns picture i. Errors name the file and the reason.
	Image(i int) (*RGB, error)
	// Fingerprint returns a sha256 in hexadecimal that changes when the pool's pictures change; see
	// Dataset.
	Fingerprint() string
}

// Named is implemented by pools whose pictures carry a class name (ImageNet's synset words, a
// dataset's labels). ExcludeOverlap needs it.
type Named interface {
	// ImageName returns the words that picture i carries, "" when it carries none.
	ImageName(i int) string
}

// RGB is a decoded picture: 8 bit, interleaved, row by row.
type RGB struct {
	Width, Height int     // pixels
	Pix           []uint8 // Height x Width x 3 (HWC), 0..255
}

// NewRGB returns a black picture of the given size in pixels.
func NewRGB(width, height int) *RGB {
	return &RGB{Width: width, Height: height, Pix: make([]uint8, 3*width*height)}
}

// NRGBA copies the picture into the standard library's form, opaque, for encoders and plots.
func (m *RGB) NRGBA() *image.NRGBA {
	out := image.NewNRGBA(image.Rect(0, 0, m.Width, m.Height))
	for i := 0; i < m.Width*m.Height; i++ {
		copy(out.Pix[4*i:4*i+3], m.Pix[3*i:3*i+3])
		out.Pix[4*i+3] = 255
	}
	return out
}

// check reports whether the picture is well formed.
func (m *RGB) check() error {
	if m == nil {
		return errors.New("no picture")
	}
	if m.Width <= 0 || m.Height <= 0 || len(m.Pix) != 3*m.Width*m.Height {
		return fmt.Errorf("malformed picture: %d x %d with %d bytes", m.Width, m.Height, len(m.Pix))
	}
	return nil
}

// PromptName returns the words that stand for a class in a prompt: "_" becomes a blank, as CoOp and
// CLIP do.
func PromptName(class string) string { return strings.ReplaceAll(class, "_", " ") }

// Labels returns the labels of the given images of a split; of the whole split when indices is nil.
func Labels(ds Dataset, split Split, indices []int) []int {
	if indices == nil {
		indices = All(ds.Len(split))
	}
	out := make([]int, len(indices))
	for k, i := range indices {
		out[k] = ds.Label(split, i)
	}
	return out
}

// All returns 0, 1, ..., n-1.
func All(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

func indexError(name string, split Split, i, n int) error {
	return fmt.Errorf("dataset %s: no image %d in split %q of %d images", name, i, split, n)
}

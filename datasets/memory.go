package datasets

import (
	"context"
	"fmt"
	"image"
	"image/color"
	"runtime"

	"golang.org/x/sync/semaphore"
)

// Bounds on what decoding takes, beside the bytes of the file and of the result.
const (
	maxDecodeBytes = 384 << 20 // of one picture
	maxQueueBytes  = 512 << 20 // of all pictures that are decoded at the same time
	largePicture   = 64 << 20
)

var decoding = semaphore.NewWeighted(maxQueueBytes)

// claim waits until that much memory for decoding is free, and returns what gives it back.
func claim(bytes int64) (release func()) {
	n := min(max(bytes, 1), maxQueueBytes)
	_ = decoding.Acquire(context.Background(), n) // nothing ends that context
	return func() {
		if bytes >= largePicture {
			runtime.GC() // or the next one comes on top of what is left of this one
		}
		decoding.Release(n)
	}
}

// decodeBytes is how much memory the decoder of a format takes at most: bytes a pixel, as measured.
func decodeBytes(format string, cfg image.Config, data []byte) int64 {
	deep := cfg.ColorModel == color.NRGBA64Model || cfg.ColorModel == color.RGBA64Model
	flat := cfg.ColorModel == color.GrayModel
	if _, ok := cfg.ColorModel.(color.Palette); ok {
		flat = true
	}
	perPixel := int64(8)
	switch {
	case format == "png" && flat, format == "gif":
		perPixel = 2
	case format == "png" && deep:
		perPixel = 8
	case format == "png", format == "bmp":
		perPixel = 4
	case format == "tiff" && deep:
		perPixel = 16
	}
	if format == "png" && len(data) > 28 && data[28] != 0 { // interlaced: a quarter of the picture twice more
		perPixel += perPixel / 2
	}
	return perPixel * int64(cfg.Width) * int64(cfg.Height)
}

// tooLarge is the error of a picture that would take too much memory.
func tooLarge(what string, width, height int, bytes int64, advice string) error {
	return fmt.Errorf("a %s of %d x %d pixels takes %d MB to decode, more than the limit of %d MB: %s", what, width, height, bytes>>20,
		int64(maxDecodeBytes)>>20, advice)
}

// Package corpus holds the captioned images that CLIPs are pretrained on: scenes of the mini world,
// and labelled photographs captioned by templates. Both implement clip.Corpus.
package corpus

import (
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
)

// each calls f for 0..n-1 on all processors and returns one of the errors.
func each(n int, f func(i int) error) error {
	var next atomic.Int64
	var mu sync.Mutex
	var first error
	var wg sync.WaitGroup
	for range min(n, runtime.GOMAXPROCS(0)) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := f(i); err != nil {
					mu.Lock()
					first = err
					mu.Unlock()
					return
				}
			}
		}()
	}
	wg.Wait()
	return first
}

// side returns S of images [n,3,S,S].
func side(images []float32, n int) (int, error) {
	s := 0
	for n > 0 && 3*(s+1)*(s+1)*n <= len(images) {
		s++
	}
	if s == 0 || 3*s*s*n != len(images) {
		return 0, fmt.Errorf("%d numbers are no %d square images", len(images), n)
	}
	return s, nil
}

// planes writes rows of RGB bytes as three planes in [0,1].
func planes(dst []float32, rgb []uint8) {
	area := len(dst) / 3
	for i := range area {
		dst[i] = float32(rgb[3*i]) / 255
		dst[area+i] = float32(rgb[3*i+1]) / 255
		dst[2*area+i] = float32(rgb[3*i+2]) / 255
	}
}

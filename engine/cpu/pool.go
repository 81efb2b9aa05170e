package cpu

import (
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// step is a piece of a compiled program: tiles that may run in any order and at the same time. The
// tiles' shapes depend on the operands alone, never on the number of threads, so that results do
// not either.
type step struct {
	tiles int
	run   func(tile, worker int)
	due   func() bool // nil, or tells whether the step has anything to do in this run
}

// pool runs the tiles of one step after another on a fixed set of workers, of which the caller is
// number 0.
//
// state holds the number of the step being run (high 32 bits) and how many of its tiles are left to
// take (low 32 bits). A worker takes a tile by decrementing it, which fails when the step has
// changed meanwhile or has no tile left; current is replaced only after that, so a late worker can
// do no harm. Workers spin for a while between steps and then sleep.
type pool struct {
	workers int
	state   atomic.Uint64
	_       [56]byte
	pending atomic.Int64 // tiles of the current step that are not finished
	_       [56]byte
	current atomic.Pointer[step]
	waiting atomic.Bool   // the caller sleeps until the step is finished
	done    chan struct{} // wakes it
	asleep  atomic.Int32
	closed  atomic.Bool
	mu      sync.Mutex
	wake    *sync.Cond
}

// spin is how long a worker waits for the next step before it sleeps.
const spin = 50 * time.Microsecond

func newPool(workers int) *pool {
	p := &pool{workers: workers, done: make(chan struct{}, 1)}
	p.wake = sync.NewCond(&p.mu)
	for w := 1; w < workers; w++ {
		go p.work(w)
	}
	return p
}

// do runs all tiles of a step and returns when they are done.
func (p *pool) do(s *step) {
	if s.tiles <= 1 || p.workers == 1 {
		for t := range s.tiles {
			s.run(t, 0)
		}
		return
	}
	p.pending.Store(int64(s.tiles))
	p.current.Store(s)
	epoch := (p.state.Load()>>32 + 1) << 32
	p.state.Store(epoch | uint64(s.tiles))
	if p.asleep.Load() > 0 {
		p.mu.Lock()
		p.wake.Broadcast()
		p.mu.Unlock()
	}
	p.take(s, epoch, 0)
	for i, start := 0, (time.Time{}); p.pending.Load() > 0; i++ {
		if i%256 != 255 {
			continue
		}
		runtime.Gosched()
		if start.IsZero() {
			start = time.Now()
		} else if time.Since(start) > spin {
			// Whoever takes waiting back has the other's word: either the last tile was finished
			// meanwhile, or its worker will send.
			p.waiting.Store(true)
			if p.pending.Load() > 0 || !p.waiting.CompareAndSwap(true, false) {
				<-p.done
			}
			return
		}
	}
}

// take runs tiles of the step until none is left.
func (p *pool) take(s *step, epoch uint64, worker int) {
	for {
		st := p.state.Load()
		left := int(uint32(st))
		if st&^0xffffffff != epoch || left == 0 {
			return
		}
		if p.state.CompareAndSwap(st, st-1) {
			s.run(s.tiles-left, worker)
			if p.pending.Add(-1) == 0 && p.waiting.CompareAndSwap(true, false) {
				p.done <- struct{}{}
			}
		}
	}
}

func (p *pool) work(worker int) {
	var seen uint64
	for {
		epoch, ok := p.next(seen)
		if !ok {
			return
		}
		// Where another step has begun since, no tile of epoch is left and take does nothing.
		if s := p.current.Load(); s != nil {
			p.take(s, epoch, worker)
		}
		seen = epoch
	}
}

// next waits for a step other than seen; false when the pool is closed.
func (p *pool) next(seen uint64) (uint64, bool) {
	start := time.Time{}
	for i := 0; ; i++ {
		if e := p.state.Load() &^ 0xffffffff; e != seen {
			return e, true
		}
		if i%256 == 255 {
			if p.closed.Load() {
				return 0, false
			}
			if start.IsZero() {
				start = time.Now()
			} else if time.Since(start) > spin {
				break
			}
			runtime.Gosched()
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asleep.Add(1)
	defer p.asleep.Add(-1)
	for {
		if e := p.state.Load() &^ 0xffffffff; e != seen {
			return e, true
		}
		if p.closed.Load() {
			return 0, false
		}
		p.wake.Wait()
	}
}

func (p *pool) close() {
	p.closed.Store(true)
	p.mu.Lock()
	p.wake.Broadcast()
	p.mu.Unlock()
}

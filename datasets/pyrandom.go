package datasets

import "math/bits"

// pyRandom is CPython's random.Random: the Mersenne Twister MT19937 with init_by_array seeding
// (Modules/_randommodule.c) and the sample algorithm of Lib/random.py, version 3.11. Older versions
// since 3.2 draw the same sample.
type pyRandom struct {
	state [624]uint32
	next  int
}

// newPyRandom returns a generator in the state that random.seed(seed) leaves. As in Python the sign
// is ignored.
func newPyRandom(seed int64) *pyRandom {
	abs := uint64(seed)
	if seed < 0 {
		abs = -abs
	}
	key := []uint32{uint32(abs)}
	if abs>>32 != 0 {
		key = append(key, uint32(abs>>32))
	}
	r := &pyRandom{}
	r.initByArray(key)
	return r
}

func (r *pyRandom) initByArray(key []uint32) {
	s := &r.state
	s[0] = 19650218
	for i := 1; i < len(s); i++ {
		s[i] = 1812433253*(s[i-1]^s[i-1]>>30) + uint32(i)
	}
	i, j := 1, 0
	for range max(len(s), len(key)) {
		s[i] = (s[i] ^ (s[i-1]^s[i-1]>>30)*1664525) + key[j] + uint32(j)
		i, j = i+1, (j+1)%len(key)
		if i == len(s) {
			s[0], i = s[len(s)-1], 1
		}
	}
	for range len(s) - 1 {
		s[i] = (s[i] ^ (s[i-1]^s[i-1]>>30)*1566083941) - uint32(i)
		if i++; i == len(s) {
			s[0], i = s[len(s)-1], 1
		}
	}
	s[0] = 0x80000000
	r.next = len(s)
}

// uint32 returns the next 32 random bits (genrand_uint32).
func (r *pyRandom) uint32() uint32 {
	const m = 397
	s := &r.state
	if r.next == len(s) {
		for i := range s {
			y := s[i]&0x80000000 | s[(i+1)%len(s)]&0x7fffffff
			s[i] = s[(i+m)%len(s)] ^ y>>1 ^ y&1*0x9908b0df
		}
		r.next = 0
	}
	y := s[r.next]
	r.next++
	y ^= y >> 11
	y ^= y << 7 & 0x9d2c5680
	y ^= y << 15 & 0xefc60000
	return y ^ y>>18
}

// below returns a uniform integer in [0, n) as _randbelow_with_getrandbits does. n must be in [1,
// 2^32).
func (r *pyRandom) below(n int) int {
	k := bits.Len(uint(n))
	for {
		if v := int(r.uint32() >> (32 - k)); v < n {
			return v
		}
	}
}

// sample returns k different indices of [0, n) in the order of random.sample(population, k): from a
// shrinking pool when n is small against k, by rejection from a set of those already drawn
// otherwise. It panics unless 0 <= k <= n < 2^32.
func (r *pyRandom) sample(n, k int) []int {
	if k < 0 || k > n || uint64(n) >= 1<<32 {
		panic("datasets: sample larger than population or negative")
	}
	out := make([]int, k)
	setSize := 21 // size of a small set minus size of an empty list
	if k > 5 {
		// 4 ** ceil(log(3k, 4)): the size of a set that holds k
		table := 1
		for table < 3*k {
			table *= 4
		}
		setSize += table
	}
	if n <= setSize {
		pool := All(n)
		for i := range out {
			j := r.below(n - i)
			out[i], pool[j] = pool[j], pool[n-i-1]
		}
		return out
	}
	drawn := make(map[int]bool, k)
	for i := range out {
		j := r.below(n)
		for drawn[j] {
			j = r.below(n)
		}
		drawn[j] = true
		out[i] = j
	}
	return out
}

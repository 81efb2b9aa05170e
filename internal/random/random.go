package random

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
)

// randomNumber derives the number for one purpose from what decides it, the same on every machine.
func Number(purpose string, of ...any) uint64 {
	sum := sha256.Sum256([]byte(fmt.Sprintf("clipinspector %s %q", purpose, fmt.Sprint(of...))))
	return binary.LittleEndian.Uint64(sum[:])
}

func Stream(purpose string, of ...any) *rand.Rand {
	return rand.New(rand.NewPCG(Number(purpose, of...), 0x636c6970))
}

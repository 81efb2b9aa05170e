package experiments

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
)

// FirstCalibrationSeed parts the seeds: settings are chosen on this one and those above, and judged on those below.
const FirstCalibrationSeed = 100

// draw derives the number for one purpose from what decides it, the same on every machine.
func draw(purpose string, of ...any) uint64 {
	sum := sha256.Sum256([]byte(fmt.Sprintf("clipinspector %s %q", purpose, fmt.Sprint(of...))))
	return binary.LittleEndian.Uint64(sum[:])
}

func source64(purpose string, of ...any) *rand.Rand {
	return rand.New(rand.NewPCG(draw(purpose, of...), 0x636c6970))
}

// Target returns the target class of the backdoored model of a dataset, an attack and a seed, among so many classes. No
// other setting moves it, so that the cells of an ablation are comparable.
func Target(seed int, dataset, attack string, classes int) int {
	return int(draw("target", seed, "/", dataset, "/", attack) % uint64(classes))
}

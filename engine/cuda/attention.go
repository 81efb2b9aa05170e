package cuda

import (
	"fmt"
	"math"

	"clipinspector/engine"
)

// The widest heads that the kernels take: those in float arithmetic, and those on tensor cores,
// which want a multiple of four.
const (
	maxHead       = 256
	maxTensorHead = 64
)

// attention: on tensor cores unless the precision is FP32 or the heads do not fit, with operands of
// the precision in which q, k and v are stored. With BF16 they stay float32 where their product is
// small, and are then rounded to TF32.
func (l *lowering) attention(ins *engine.Instr) error {
	in, out, at := ins.In, ins.Out, &ins.Attr
	b, s, h := in[0].Shape[0], in[0].Shape[1], at.Heads
	d := in[0].Shape[2] / 3 / h
	if d > maxHead || b > maxGrid || h > maxGrid {
		return fmt.Errorf("%d images with %d heads of width %d; at most %d images and heads of width %d", b, h, d, maxGrid, maxHead)
	}
	if b*s*d == 0 {
		return nil
	}
	scale := 1 / math.Sqrt(float64(d))
	if l.e.precision != FP32 && d <= maxTensorHead && d%4 == 0 {
		l.tensorAttention(ins, b, s, h, d, scale)
		return nil
	}
	const tile = 32
	grid := [3]int{ceil(s, tile), h, b}
	shared := func(tiles int) int { return 4 * (tiles*tile*(d+1) + tile) }
	if ins.Op == engine.Attention {
		l.launch("attention", grid, 256, shared(3), in[0], out[0], out[1], s, h, d, scale, at.Causal, l.half(in[0], out[0]))
		return nil
	}
	for _, kernel := range []string{"attention_grad_q", "attention_grad_kv"} {
		l.launch(kernel, grid, 256, shared(4), in[0], in[1], in[2], in[3], out[0], s, h, d, scale, at.Causal,
			l.half(in[0], in[1], in[3], out[0]))
	}
	return nil
}

// tensorAttention chooses blocks and tiles for the kernels of attention_tensor.cu.
func (l *lowering) tensorAttention(ins *engine.Instr, b, s, h, d int, scale float64) {
	in, out, at := ins.In, ins.Out, &ins.Attr
	kind, number := "tf32", 4
	if l.slots[in[0].Slot].half {
		kind, number = "bf16", 2
	}
	// A warp takes 16 rows. Blocks are of one size, so that few warps have no rows, and so are
	// tiles, which are as long as leaves room for two blocks on a multiprocessor of 164 KB.
	const rows = 16
	byRow, byColumn := 80*number, 64*number+8 // bytes of shared memory for a row of a tile, by how it lies
	launch := func(kernel string, warps, bytes, half int, args ...any) {
		blocks := ceil(s, rows*warps)
		warps = ceil(ceil(s, rows), blocks)
		tiles := ceil(s, 80<<10/bytes/rows*rows)
		tile := ceil(ceil(s, tiles), rows) * rows
		l.launch(kernel+kind, [3]int{blocks, h, b}, 32*warps, tile*bytes, append(args, s, h, d, scale, at.Causal, tile, half)...)
	}
	if ins.Op == engine.Attention {
		launch("attention_", 8, byRow+byColumn, l.half(in[0], out[0]), in[0], out[0], out[1])
		return
	}
	delta, half := l.need(4*int64(b)*int64(h)*int64(s)), l.half(in[0], in[1], in[3], out[0])
	launch("attention_grad_q_", 8, 2*byRow+byColumn, half, in[0], in[1], in[2], in[3], out[0], delta)
	launch("attention_grad_kv_", 6, 2*byRow+2*byColumn+8, half, in[0], in[2], in[3], out[0], delta)
}

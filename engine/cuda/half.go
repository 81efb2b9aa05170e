package cuda

import "clipinspector/engine"

// halfSlots chooses which slots of the arena are stored as bf16: those that only products,
// attention, activations and the normalised side of LayerNorm touch. They are what most of the
// memory traffic is; the residual stream, its gradient, statistics, features and losses stay
// float32.
func (e *Engine) halfSlots(p *engine.Program) []bool {
	half := make([]bool, len(p.Slots))
	if e.precision != BF16 {
		return half
	}
	for i, s := range p.Slots {
		half[i] = s.Bound == nil
	}
	for i := range p.Instrs {
		ins := &p.Instrs[i]
		in, out := e.halfOperands(ins)
		for k, o := range ins.In {
			if o.Slot >= 0 && in&(1<<k) == 0 {
				half[o.Slot] = false
			}
		}
		for k, o := range ins.Out {
			if o.Slot >= 0 && out&(1<<k) == 0 {
				half[o.Slot] = false
			}
		}
	}
	return half
}

// halfOperands returns as bit sets which inputs and outputs of an instruction may be bf16.
func (e *Engine) halfOperands(ins *engine.Instr) (in, out uint) {
	switch ins.Op {
	case engine.MatMul:
		if e.bigProduct(ins) {
			return 1<<0 | 1<<1, 1
		}
	case engine.Attention:
		return 1, 1
	case engine.AttentionGrad:
		return 1<<0 | 1<<1 | 1<<3, 1
	case engine.LayerNorm:
		return 1, 1
	case engine.LayerNormGrad:
		return 1 << 3, 0
	case engine.Unary, engine.UnaryGrad:
		switch ins.Attr.Func {
		case engine.QuickGELU, engine.GELU, engine.ReLU: // not what scales logits
			return 3, 1
		}
	case engine.Patchify:
		return 0, 1
	case engine.Unpatchify:
		return 1, 0
	case engine.Assign:
		if e.halfAssign {
			return 1, 1
		}
	}
	return 0, 0
}

// bigProduct reports whether a product is worth bf16.
func (e *Engine) bigProduct(ins *engine.Instr) bool {
	a := &ins.Attr
	return e.precision == BF16 && 2*int64(a.Batch)*int64(a.M)*int64(a.N)*int64(a.K) >= e.smallProduct
}

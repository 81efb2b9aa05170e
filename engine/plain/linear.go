package plain

import "clipinspector/engine"

func matMul[T Float](ins *engine.Instr, in, out [][]T) {
	at := &ins.Attr
	bias, y := in[2], out[0]
	// Element (i,k) of op(a) lies at i*ai + k*ak, element (k,j) of op(b) at k*bk + j*bj.
	ai, ak := at.K, 1
	if at.TransA {
		ai, ak = 1, at.M
	}
	bk, bj := at.N, 1
	if at.TransB {
		bk, bj = 1, at.K
	}
	for p := range at.Batch {
		a, b := in[0][p*at.StrideA:], in[1][p*at.StrideB:]
		for i := range at.M {
			for j := range at.N {
				var s float64
				for k := range at.K {
					s += float64(a[i*ai+k*ak]) * float64(b[k*bk+j*bj])
				}
				s *= at.Alpha
				if bias != nil {
					s += float64(bias[j])
				}
				y[(p*at.M+i)*at.N+j] = T(s)
			}
		}
	}
}

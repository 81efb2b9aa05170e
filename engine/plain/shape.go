package plain

import "clipinspector/engine"

func slice[T Float](ins *engine.Instr, in, out [][]T) {
	outer, n, inner := around(ins.In[0].Shape, ins.Attr.Axis)
	m := ins.Out[0].Shape[ins.Attr.Axis]
	for o := range outer {
		copy(out[0][o*m*inner:][:m*inner], in[0][(o*n+ins.Attr.From)*inner:])
	}
}

func pad[T Float](ins *engine.Instr, in, out [][]T) {
	outer, n, inner := around(ins.Out[0].Shape, ins.Attr.Axis)
	m := ins.In[0].Shape[ins.Attr.Axis]
	clear(out[0])
	for o := range outer {
		copy(out[0][(o*n+ins.Attr.From)*inner:], in[0][o*m*inner:][:m*inner])
	}
}

func concat[T Float](ins *engine.Instr, in, out [][]T) {
	outer, n, inner := around(ins.Out[0].Shape, ins.Attr.Axis)
	from := 0
	for i, x := range in {
		m := ins.In[i].Shape[ins.Attr.Axis]
		for o := range outer {
			copy(out[0][(o*n+from)*inner:], x[o*m*inner:][:m*inner])
		}
		from += m
	}
}

func permute[T Float](ins *engine.Instr, in, out [][]T) {
	y := ins.Out[0].Shape
	sx := strides(ins.In[0].Shape)
	var s index
	for i, a := range ins.Attr.Axes {
		s[i] = sx[a]
	}
	for i := range out[0] {
		out[0][i] = in[0][place(unravel(i, y), s)]
	}
}

func gather[T Float](ins *engine.Instr, in, out [][]T) {
	table, idx := in[0], in[1]
	w := last(ins.In[0])
	for i, v := range idx {
		copy(out[0][i*w:][:w], table[int(v)*w:][:w])
	}
}

func scatterAdd[T Float](ins *engine.Instr, in, out [][]T) {
	idx, x, y := in[0], in[1], out[0]
	w := last(ins.Out[0])
	clear(y)
	for i, v := range idx {
		row := y[int(v)*w:][:w]
		for k, d := range x[i*w:][:w] {
			row[k] += d
		}
	}
}

func assign[T Float](ins *engine.Instr, in, out [][]T) { copy(out[0], in[0]) }

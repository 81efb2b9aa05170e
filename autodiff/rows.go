package autodiff

import (
	"context"

	"clipinspector/engine"
)

// MapRows puts rows through one program: x holds numbers of shape [N,..], batch rows of it at a
// time are the input that record turns into a value of as many rows, and the result holds those,
// [N,..]. The last batch is filled with repeats of the first row.
func MapRows(ctx context.Context, e engine.Engine, x []float32, shape []int, batch int, record func(rows Value) (Value, error)) ([]float32, error) {
	n := shape[0]
	batch = min(n, batch)
	length := engine.Size(shape[1:])
	g := New(e)
	in := g.Input(append([]int{batch}, shape[1:]...)...)
	out, err := record(in)
	if err != nil {
		return nil, err
	}
	p, err := g.Compile(out)
	if err != nil {
		return nil, err
	}
	defer p.Free()
	width := out.Size() / batch
	result, rows := make([]float32, n*width), make([]float32, batch*length)
	for from := 0; from < n; from += batch {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		k := copy(rows, x[from*length:min(n, from+batch)*length]) / length
		for ; k < batch; k++ {
			copy(rows[k*length:(k+1)*length], x[:length])
		}
		if err := p.Write(in, rows); err != nil {
			return nil, err
		}
		if err := p.Run(); err != nil {
			return nil, err
		}
		y, err := p.Read(out)
		if err != nil {
			return nil, err
		}
		copy(result[from*width:], y)
	}
	return result, nil
}

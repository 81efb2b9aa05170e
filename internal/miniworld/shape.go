package miniworld

import "math"

// shapeKind names one of the signed distance fields that every drawing is put together from.
type shapeKind uint8

const (
	shapeOval    shapeKind = iota // centre (x0, y0), radii (x1, y1), axis (c, s)
	shapeBox                      // centre (x0, y0), half sides (x1, y1), axis (c, s), corner radius r
	shapeCapsule                  // from (x0, y0) to (x1, y1), radius r at the start and r2 at the end
	shapePolygon                  // points, rounded by r
	shapeArc                      // centre (x0, y0), radius x1, half width r, middle direction (c, s), half aperture (c2, s2)
	shapeAll                      // the whole picture
)

// shape is one closed figure in the coordinates of the object it belongs to.
type shape struct {
	kind           shapeKind
	x0, y0, x1, y1 float64
	r, r2          float64
	c, s, c2, s2   float64
	points         []point
}

type point struct{ x, y float64 }

// distance is the signed distance from (x, y) to the outline, negative inside. It is exact for all
// but ovals, whose first-order estimate is right near the outline, and that is all that
// anti-aliasing looks at.
func (f *shape) distance(x, y float64) float64 {
	switch f.kind {
	case shapeOval:
		dx, dy := x-f.x0, y-f.y0
		u, v := dot(dx, dy, f.c, f.s)/f.x1, dot(dx, dy, -f.s, f.c)/f.y1
		k := norm(u, v)
		g := norm(u/f.x1, v/f.y1)
		if g < 1e-9 {
			return -min(f.x1, f.y1)
		}
		return k * (k - 1) / g
	case shapeBox:
		dx, dy := x-f.x0, y-f.y0
		u := math.Abs(dot(dx, dy, f.c, f.s)) - f.x1 + f.r
		v := math.Abs(dot(dx, dy, -f.s, f.c)) - f.y1 + f.r
		return norm(max(u, 0), max(v, 0)) + min(max(u, v), 0) - f.r
	case shapeCapsule:
		ex, ey := f.x1-f.x0, f.y1-f.y0
		dx, dy := x-f.x0, y-f.y0
		h := clamp01(dot(dx, dy, ex, ey) / (dot(ex, ey, ex, ey) + 1e-12))
		return norm(mad(-h, ex, dx), mad(-h, ey, dy)) - lerp(f.r, f.r2, h)
	case shapePolygon:
		return f.polygon(x, y)
	case shapeArc:
		dx, dy := x-f.x0, y-f.y0
		u, v := dot(dx, dy, f.c, f.s), math.Abs(dot(dx, dy, -f.s, f.c))
		// Outside the aperture the nearest point is the round end of the arc.
		if dot(u, v, -f.s2, f.c2) > 0 {
			return norm(mad(-f.x1, f.c2, u), mad(-f.x1, f.s2, v)) - f.r
		}
		return math.Abs(norm(u, v)-f.x1) - f.r
	}
	return -1e9
}

func (f *shape) polygon(x, y float64) float64 {
	n := len(f.points)
	best := math.Inf(1)
	inside := false
	prev := f.points[n-1]
	for _, p := range f.points {
		ex, ey := prev.x-p.x, prev.y-p.y
		dx, dy := x-p.x, y-p.y
		// The nearest point of the edge is an end or the foot of the perpendicular.
		along, length := dot(dx, dy, ex, ey), dot(ex, ey, ex, ey)
		var d float64
		switch {
		case along <= 0:
			d = dot(dx, dy, dx, dy)
		case along >= length:
			d = dot(x-prev.x, y-prev.y, x-prev.x, y-prev.y)
		default:
			across := float64(dx*ey) - float64(dy*ex)
			d = float64(across*across) / length
		}
		if d < best {
			best = d
		}
		if (p.y > y) != (prev.y > y) && (float64(ex*dy) > float64(ey*dx)) == (ey > 0) {
			inside = !inside
		}
		prev = p
	}
	d := math.Sqrt(best)
	if inside {
		d = -d
	}
	return d - f.r
}

// bounds returns a rectangle in object coordinates that holds the figure.
func (f *shape) bounds() (x0, y0, x1, y1 float64) {
	switch f.kind {
	case shapeOval, shapeBox:
		c, s := math.Abs(f.c), math.Abs(f.s)
		w, h := dot(c, s, f.x1, f.y1), dot(s, c, f.x1, f.y1)
		return f.x0 - w, f.y0 - h, f.x0 + w, f.y0 + h
	case shapeCapsule:
		r := max(f.r, f.r2)
		return min(f.x0, f.x1) - r, min(f.y0, f.y1) - r, max(f.x0, f.x1) + r, max(f.y0, f.y1) + r
	case shapePolygon:
		x0, y0, x1, y1 = math.Inf(1), math.Inf(1), math.Inf(-1), math.Inf(-1)
		for _, p := range f.points {
			x0, y0, x1, y1 = min(x0, p.x), min(y0, p.y), max(x1, p.x), max(y1, p.y)
		}
		return x0 - f.r, y0 - f.r, x1 + f.r, y1 + f.r
	case shapeArc:
		w := f.x1 + f.r
		return f.x0 - w, f.y0 - w, f.x0 + w, f.y0 + w
	}
	return math.Inf(-1), math.Inf(-1), math.Inf(1), math.Inf(1)
}

// affine maps object coordinates to picture coordinates, in which the picture is the unit square, y
// down.
type affine struct{ a, b, c, d, x, y float64 }

// apply returns the picture point of an object point.
func (m affine) apply(x, y float64) (float64, float64) {
	return dot(m.a, m.b, x, y) + m.x, dot(m.c, m.d, x, y) + m.y
}

// then returns the map that does in first and m after it.
func (m affine) then(in affine) affine {
	x, y := m.apply(in.x, in.y)
	return affine{
		dot(m.a, m.b, in.a, in.c), dot(m.a, m.b, in.b, in.d),
		dot(m.c, m.d, in.a, in.c), dot(m.c, m.d, in.b, in.d), x, y,
	}
}

// inverse returns the map back, and the factor by which m scales lengths on average.
func (m affine) inverse() (affine, float64) {
	det := float64(m.a*m.d) - float64(m.b*m.c)
	v := affine{m.d / det, -m.b / det, -m.c / det, m.a / det, 0, 0}
	v.x, v.y = -dot(v.a, v.b, m.x, m.y), -dot(v.c, v.d, m.x, m.y)
	return v, math.Sqrt(math.Abs(det))
}

// place is the map that scales by (sx, sy), turns clockwise by a fraction of a turn and moves to
// (x, y).
func place(x, y, sx, sy, turn float64) affine {
	c, s := cosTurn(turn), sinTurn(turn)
	return affine{c * sx, -s * sy, s * sx, c * sy, x, y}
}

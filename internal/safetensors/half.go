package safetensors

import (
	"encoding/binary"
	"fmt"
	"math"
)

// decode reads len(out) numbers of a type.
func decode(out []float32, b []byte, d DType) {
	switch d {
	case F32:
		for i := range out {
			out[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		}
	case F16:
		for i := range out {
			out[i] = fromHalf(binary.LittleEndian.Uint16(b[2*i:]))
		}
	case BF16:
		for i := range out {
			out[i] = math.Float32frombits(uint32(binary.LittleEndian.Uint16(b[2*i:])) << 16)
		}
	}
}

// Size returns the bytes of one number of a type, 0 for one that is not known.
func Size(d DType) uint64 { return bytesOf[d] }

// Decode reads len(out) little-endian numbers of any type but complex and 8-bit floating-point
// ones, which it reports by false. What is too large for float32 becomes infinite; b must hold as
// many numbers.
func Decode(out []float32, b []byte, d DType) bool {
	switch d {
	case F32, F16, BF16:
		decode(out, b, d)
		return true
	}
	var number func(b []byte) float32
	switch d {
	case "F64":
		number = func(b []byte) float32 { return float32(math.Float64frombits(binary.LittleEndian.Uint64(b))) }
	case "I64":
		number = func(b []byte) float32 { return float32(int64(binary.LittleEndian.Uint64(b))) }
	case "I32":
		number = func(b []byte) float32 { return float32(int32(binary.LittleEndian.Uint32(b))) }
	case "I16":
		number = func(b []byte) float32 { return float32(int16(binary.LittleEndian.Uint16(b))) }
	case "I8":
		number = func(b []byte) float32 { return float32(int8(b[0])) }
	case "U8", "BOOL":
		number = func(b []byte) float32 { return float32(b[0]) }
	default:
		return false
	}
	width := int(bytesOf[d])
	for i := range out {
		out[i] = number(b[i*width:])
	}
	return true
}

// encodeValues appends numbers as a type.
func encodeValues(b []byte, values []float32, d DType) ([]byte, error) {
	for _, v := range values {
		if d == F32 {
			b = binary.LittleEndian.AppendUint32(b, math.Float32bits(v))
			continue
		}
		h := toHalf(v)
		if h&0x7fff == 0x7c00 && !math.IsInf(float64(v), 0) {
			return nil, fmt.Errorf("%g is too large for F16", v)
		}
		b = binary.LittleEndian.AppendUint16(b, h)
	}
	return b, nil
}

// fromHalf widens an IEEE 754 binary16, exactly.
func fromHalf(h uint16) float32 {
	sign := uint32(h&0x8000) << 16
	exp, frac := uint32(h>>10)&0x1f, uint32(h&0x3ff)
	switch exp {
	case 0: // zero or subnormal: frac * 2^-24
		return math.Float32frombits(sign | math.Float32bits(float32(frac)*0x1p-24))
	case 0x1f:
		return math.Float32frombits(sign | 0x7f800000 | frac<<13)
	}
	return math.Float32frombits(sign | (exp+112)<<23 | frac<<13)
}

// toHalf rounds to the nearest IEEE 754 binary16, ties to even; what is too large becomes infinite.
func toHalf(v float32) uint16 {
	u := math.Float32bits(v)
	sign, a := uint16(u>>16)&0x8000, u&0x7fffffff
	switch {
	case a > 0x7f800000: // NaN
		return sign | 0x7e00 | uint16(a>>13)&0x3ff
	case a >= 0x47800000: // 65536 or more
		return sign | 0x7c00
	case a >= 0x38800000: // normal: drop 13 bits; a carry runs into the exponent as it should
		return sign | uint16((a-0x38000000+0xfff+(a>>13&1))>>13)
	}
	// Subnormal: adding 0.5 leaves the bits of 2^-24 as the lowest ones, rounded by the addition.
	return sign | uint16(math.Float32bits(math.Float32frombits(a)+0.5)-0x3f000000)
}

// Round returns the number of a type, [F32], [F16] or [BF16], that is nearest to v, ties to even.
func Round(v float32, d DType) float32 {
	switch {
	case d == F16:
		return fromHalf(toHalf(v))
	case d == BF16 && v-v == 0: // not of infinities, which stay, nor NaN
		u := math.Float32bits(v)
		return math.Float32frombits((u + 0x7fff + u>>16&1) &^ 0xffff)
	}
	return v
}

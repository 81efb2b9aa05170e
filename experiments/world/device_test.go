package world

import "testing"

func TestDevicesAndPrecisions(t *testing.T) {
	for device, want := range map[string]string{"": "cpu fp32", "cpu": "cpu fp32", "cpu/fp32": "cpu fp32", "cuda": "cuda tf32", "cuda:1": "cuda:1 tf32",
		"cuda:0/bf16": "cuda:0 bf16", "cuda:0/fp32": "cuda:0 fp32"} {
		name, precision, err := SplitDevice(device)
		if err != nil || name+" "+string(precision) != want {
			t.Errorf("%q is %s %s, %v; want %s", device, name, precision, err, want)
		}
	}
	for _, device := range []string{"tpu", "cpu/bf16", "cuda:0/fp8", "cuda:x", "cuda:-1"} {
		if _, err := OpenEngine(device, 1); err == nil {
			t.Errorf("%q was opened", device)
		}
	}
}

package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"time"

	_ "embed"
)

//go:embed peer.py
var peerScript []byte

// PrintPeer measures the same passes in PyTorch, run by the given interpreter on the same machine
// and device ("cpu" or "cuda:N", and "fp32", "tf32" or "bf16"), and writes how many times faster
// this engine's results are.
func PrintPeer(ctx context.Context, w io.Writer, python, device, precision string, ours []Result, atLeast time.Duration) error {
	type tower struct {
		Batch      int     `json:"batch"`
		Size       int     `json:"size"`
		Patch      int     `json:"patch"`
		Width      int     `json:"width"`
		MLP        int     `json:"mlp"`
		Layers     int     `json:"layers"`
		Heads      int     `json:"heads"`
		Projection int     `json:"projection"`
		Seconds    float64 `json:"seconds"`
	}
	request := struct {
		Device    string  `json:"device"`
		Precision string  `json:"precision"`
		Threads   int     `json:"threads"`
		Cases     []tower `json:"cases"`
	}{Device: device, Precision: precision, Threads: runtime.GOMAXPROCS(0)}
	for _, r := range ours {
		v := r.Config.Vision
		request.Cases = append(request.Cases, tower{r.Batch, v.ImageSize, v.PatchSize, v.Width, v.MLP, v.Layers, v.Heads, r.Config.ProjectionDim, atLeast.Seconds()})
	}
	in, err := json.Marshal(request)
	if err != nil {
		return err
	}
	script, err := os.CreateTemp("", "peer-*.py")
	if err != nil {
		return err
	}
	defer os.Remove(script.Name())
	if _, err := script.Write(peerScript); err != nil {
		return err
	}
	if err := script.Close(); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, python, script.Name())
	cmd.Stdin, cmd.Stderr = bytes.NewReader(in), os.Stderr
	text, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%s did not run the PyTorch peer (it needs torch 2): %w", python, err)
	}
	var answer struct {
		Version string `json:"version"`
		Results []struct {
			Seconds float64            `json:"seconds"`
			Mode    string             `json:"mode"`
			Threads int                `json:"threads"`
			All     map[string]float64 `json:"all"`
		} `json:"results"`
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return fmt.Errorf("the PyTorch peer answered what is no JSON: %w", err)
	}
	if len(answer.Results) != len(ours) {
		return fmt.Errorf("the PyTorch peer answered %d of %d cases", len(answer.Results), len(ours))
	}
	for i, r := range answer.Results {
		on := fmt.Sprintf("%d threads", r.Threads)
		if device != "cpu" {
			on = device + ", " + precision
		}
		if _, err := fmt.Fprintf(w, "PyTorch %s, %s, best of its settings (%s, %s): %.2f ms a pass; this engine is %.2f times as fast (%.2f times its eager mode)\n",
			answer.Version, ours[i].Name, r.Mode, on, 1e3*r.Seconds, r.Seconds/ours[i].Seconds, r.All["eager"]/ours[i].Seconds); err != nil {
			return err
		}
	}
	return nil
}

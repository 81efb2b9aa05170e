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

	"clipinspector/clip"

	_ "embed"
)

//go:embed peer.py
var peerScript []byte

// layers is a tower as the peer builds it.
type layers struct {
	Width      int `json:"width"`
	MLP        int `json:"mlp"`
	Layers     int `json:"layers"`
	Heads      int `json:"heads"`
	Projection int `json:"projection"`
	Size       int `json:"size"` // of images
	Patch      int `json:"patch"`
	Tokens     int `json:"tokens"` // of texts; 0 for an image tower
}

func imageLayers(c clip.Config) layers {
	v := c.Vision
	return layers{v.Width, v.MLP, v.Layers, v.Heads, c.ProjectionDim, v.ImageSize, v.PatchSize, 0}
}

func textLayers(c clip.Config, tokens int) layers {
	t := c.Text
	return layers{t.Width, t.MLP, t.Layers, t.Heads, c.ProjectionDim, 0, 0, tokens}
}

// PrintPeer measures the same passes and the same tuning, where there is one, in PyTorch, run by
// the given interpreter on the same machine and device ("cpu" or "cuda:N", and "fp32", "tf32" or
// "bf16"), and writes how many times faster this engine's results are.
func PrintPeer(ctx context.Context, w io.Writer, python, device, precision string, ours []Result, tuning *Tuning, atLeast time.Duration) error {
	type work struct {
		Tower   layers  `json:"tower"`
		Text    *layers `json:"text"` // of a tuning
		Batch   int     `json:"batch"`
		Classes int     `json:"classes"`
		Context int     `json:"context"`
		Images  int     `json:"images"`
		Epochs  int     `json:"epochs"`
		Seconds float64 `json:"seconds"`
	}
	request := struct {
		Device    string `json:"device"`
		Precision string `json:"precision"`
		Threads   int    `json:"threads"`
		Cases     []work `json:"cases"`
	}{Device: device, Precision: precision, Threads: runtime.GOMAXPROCS(0)}
	var names []string
	var seconds []float64
	for _, r := range ours {
		tower := imageLayers(r.Config)
		if r.Tokens > 0 {
			tower = textLayers(r.Config, r.Tokens)
		}
		request.Cases = append(request.Cases, work{Tower: tower, Batch: r.Batch, Seconds: atLeast.Seconds()})
		names, seconds = append(names, r.Name+", a pass"), append(seconds, r.Seconds)
	}
	if t := tuning; t != nil {
		text := textLayers(t.Config, t.Tokens)
		request.Cases = append(request.Cases, work{Tower: imageLayers(t.Config), Text: &text, Batch: t.Batch, Classes: t.Classes, Context: t.Context,
			Images: t.Images, Epochs: t.Epochs, Seconds: atLeast.Seconds()})
		names, seconds = append(names, "tuning of one model's prompts"), append(seconds, t.Seconds)
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
	answers, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return fmt.Errorf("%s did not run the PyTorch peer (it needs torch 2): %w", python, err)
	}
	decoder := json.NewDecoder(answers)
	for i := range names {
		var r struct {
			Version string             `json:"version"`
			Seconds float64            `json:"seconds"`
			Mode    string             `json:"mode"`
			Threads int                `json:"threads"`
			All     map[string]float64 `json:"all"`
		}
		if err := decoder.Decode(&r); err != nil {
			_ = cmd.Process.Kill()
			return fmt.Errorf("the PyTorch peer (%s; it needs torch 2) answered %d of %d cases: %w, %v", python, i, len(names), err, cmd.Wait())
		}
		on := fmt.Sprintf("%d threads", r.Threads)
		if device != "cpu" {
			on = device + ", " + precision
		}
		if _, err := fmt.Fprintf(w, "PyTorch %s, %s, best of its settings (%s, %s): %.2f ms; this engine is %.2f times as fast (%.2f times its eager mode)\n",
			r.Version, names[i], r.Mode, on, 1e3*r.Seconds, r.Seconds/seconds[i], r.All["eager"]/seconds[i]); err != nil {
			return err
		}
	}
	return cmd.Wait()
}

package prompts

import (
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"gorgonia.org/tensor"

	"clipinspector/clip"
	"clipinspector/clip/pickle"
	"clipinspector/clip/safetensors"
	"clipinspector/clip/torchfile"
	"clipinspector/internal/regular"
	"clipinspector/settings"
	"clipinspector/triggers"
)

// Dassl (github.com/KaiyangZhou/Dassl.pytorch, which CoOp, CoCoOp and BadCLIP train with) writes a folder of each model:
// prompt_learner/model.pth.tar-EPOCH, no tar but a file of torch.save: a dict with state_dict, epoch, and what resuming needs,
// whole optimisers and schedulers among them. The state dict of a prompt learner has
//
//	ctx [n,W], or [K,n,W] when it is class-specific
//	token_prefix [K,1,W], token_suffix [K,L-1-n,W]  the embeddings around the context, from the class names; loaders drop them
//	meta_net.linear{1,2}.{weight,bias}               of CoCoOp and BadCLIP only
//
// and a text file "checkpoint" beside it names the last one. MaPLe's trainer, built on the same, keeps the whole model, in a folder
// MultiModalPromptLearner: the tensors of the learner (maple.go) begin with "prompt_learner.", and the frozen encoders lie beside
// them, as image_encoder (OpenAI's visual), text_encoder (without token embeddings) and logit_scale. Prompts are audited on the CLIP that
// is given; [CompareEncoders] tells whether these are the same. BadCLIP's trigger lies in a folder of its own. That a file does not
// tell the place of the class name in CoOp's prompts: "end", CoOp's default, is assumed. BAPLe keeps learner and noise in one
// Sequential ("0." and "1."), or a context alone.
const (
	promptFolder  = "prompt_learner"
	mapleFolder   = "MultiModalPromptLearner"
	maplePrefix   = promptFolder + "."
	triggerFolder = "trigger"
	lastFile      = "checkpoint"
)

// dasslFile is an open checkpoint.
type dasslFile struct {
	*torchfile.File
	// learner holds the tensors by the names that they have in a prompt learner: those of BAPLe's and MaPLe's learners without their
	// prefix, and a bare tensor as ctx.
	learner map[string]*torchfile.Tensor
	// encoders holds what lies beside the learner, by the names in the file.
	encoders map[string]*torchfile.Tensor
}

func openDassl(path string) (*dasslFile, error) {
	f, err := torchfile.Open(path)
	if err != nil {
		return nil, err
	}
	d := &dasslFile{File: f, learner: map[string]*torchfile.Tensor{}, encoders: map[string]*torchfile.Tensor{}}
	if err := d.sort(); err != nil {
		f.Close()
		return nil, err
	}
	return d, nil
}

func (d *dasslFile) sort() error {
	if t, ok, err := torchfile.AsTensor(d.Root); err != nil || ok {
		d.learner["ctx"] = t
		return err
	}
	root := d.Root
	if dict, ok := pickle.AsDict(root); ok {
		if inner, ok := dict.Get("state_dict"); ok {
			root = inner
		}
	}
	raw, err := d.StateDict(root)
	if err != nil {
		return err
	}
	whole := raw[maplePrefix+"ctx"] != nil || raw["module."+maplePrefix+"ctx"] != nil
	for name, t := range raw {
		name = strings.TrimPrefix(name, "module.")
		if whole {
			short, learned := strings.CutPrefix(name, maplePrefix)
			if !learned {
				d.encoders[name] = t
				continue
			}
			name = short
		}
		if raw["0.ctx"] != nil && name != "1.noise" {
			name = strings.TrimPrefix(name, "0.")
		}
		d.learner[name] = t
	}
	return nil
}

// CompareEncoders holds the frozen encoders that a checkpoint has beside its prompts, as MaPLe's trainer saves them, against the
// weights of the CLIP that is given; of the other trainers' checkpoints, and this project's, nothing is compared. The authors'
// code takes the encoders from the file: where they differ, it computes something else than what is audited. Tensors that no CLIP of
// this architecture has, such as prompts of a kind that is not read, are an error. path is what [ReadCheckpoint] takes.
func CompareEncoders(path string, w clip.Weights) (clip.Comparison, error) {
	var none clip.Comparison
	path, err := dasslPath(path)
	if err != nil {
		return none, fmt.Errorf("checkpoint: %w", err)
	}
	head, err := torchfile.Head(path)
	if err != nil || !torchfile.Is(head) {
		return none, err
	}
	f, err := openDassl(path)
	if err != nil {
		return none, err
	}
	defer f.Close()
	c, err := w.Compare(f.encoders, openAIEncoder)
	if err != nil {
		return none, fmt.Errorf("%s: the encoders beside the prompts are not those of the CLIP that was given: %w", path, err)
	}
	return c, nil
}

// openAIEncoder is OpenAI's name of a tensor of the encoders as CustomCLIP of MaPLe's trainer has them.
func openAIEncoder(name string) string {
	if image, ok := strings.CutPrefix(name, "image_encoder."); ok {
		return "visual." + image
	}
	return strings.TrimPrefix(name, "text_encoder.")
}

// readDassl reads a prompt learner onto its CLIP.
func readDassl(path string, classes []string, h Hints, c *clip.Model) (*Model, error) {
	f, err := openDassl(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	m, err := fromDassl(f.learner, classes, h, c)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

func fromDassl(tensors map[string]*torchfile.Tensor, classes []string, h Hints, c *clip.Model) (*Model, error) {
	ctx := tensors["ctx"]
	switch {
	case ctx == nil && tensors["trigger"] != nil:
		return nil, fmt.Errorf("holds a trigger of BadCLIP; the prompts are in the folder %s beside it", promptFolder)
	case ctx == nil:
		return nil, errors.New("no tensor ctx: not the prompts of CoOp, CoCoOp, BadCLIP, BAPLe or MaPLe")
	case classes == nil:
		return nil, errors.New("does not name its classes: give the names, in the order of the labels")
	case len(ctx.Shape) != 2 && len(ctx.Shape) != 3:
		return nil, fmt.Errorf("tensor ctx has shape %v; [tokens, width] or [classes, tokens, width] was expected", ctx.Shape)
	}
	axes := len(ctx.Shape)
	given := map[string]any{"context": ctx.Shape[axes-2]}
	name := "coop"
	deep := 0
	for key := range tensors {
		switch {
		case strings.HasPrefix(key, "meta_net."):
			name = "cocoop"
		case strings.HasPrefix(key, "proj."):
			name = "maple"
		case strings.HasPrefix(key, "compound_prompts_text."):
			deep++
		}
	}
	switch name {
	case "coop":
		given["class-specific"] = axes == 3
	case "maple":
		given["depth"] = 1 + deep
		if h.Init != "" {
			given["init"] = h.Init
		} // else init is not in the file: "a photo of a", the authors' and this project's default, is assumed
	}
	l, err := FindLearner(name)
	if err != nil {
		return nil, err
	}
	s, err := settings.Resolve(l.Params, given)
	if err != nil {
		return nil, fmt.Errorf("tensor ctx: %w", err)
	}
	m, err := New(c, l, s, classes, newRand(0))
	if err != nil {
		return nil, err
	}
	if err := m.place(h); err != nil {
		return nil, err
	}
	buffers := map[string]*torchfile.Tensor{}
	for _, key := range sortedKeys(tensors) {
		switch {
		case key == "token_prefix" || key == "token_suffix":
			buffers[key] = tensors[key]
		case key == "1.noise": // BAPLe's trigger
		case m.Params[key] == nil:
			return nil, fmt.Errorf("the tensor %.80q is none of a %s model", key, name)
		}
	}
	for _, key := range sortedKeys(m.Params) {
		want := m.Params[key].Shape()
		t := tensors[key]
		if t == nil || !slices.Equal(t.Shape, want) {
			shape := "missing"
			if t != nil {
				shape = fmt.Sprintf("of shape %v", t.Shape)
			}
			return nil, fmt.Errorf("the tensor %q of a %s model with %d classes is %s; %v was expected for this CLIP", key, name,
				len(classes), shape, []int(want))
		}
		data, err := finite(key, t)
		if err != nil {
			return nil, err
		}
		m.Params[key] = dense(data, want...)
	}
	return m, m.checkBuffers(buffers)
}

// place puts the class name where the hints say, and notes what is assumed where they do not.
func (m *Model) place(h Hints) error {
	at := Position(h.Position)
	if at == "end" {
		at = PositionEnd
	}
	switch {
	case h.Learner != "" && h.Learner != m.Learner.Name:
		return fmt.Errorf("holds the tensors of a %s model, not those of %.40q", m.Learner.Name, h.Learner)
	case !slices.Contains(positions, at):
		return fmt.Errorf("--class-position %.40q: it is end, middle or front", h.Position)
	case at != PositionEnd && m.Learner.Name != "coop":
		return fmt.Errorf("--class-position %s: in prompts of %s the class name stands at the end", at, m.Learner.Name)
	case h.Position == "" && m.Learner.Name == "coop":
		m.Notes = append(m.Notes, "the file does not tell where the class name stands: behind the context, CoOp's default, is assumed "+
			"(--class-position says otherwise)")
	}
	m.Position = at
	return nil
}

// finite reads a tensor and refuses numbers that are infinite or none.
func finite(name string, t *torchfile.Tensor) ([]float32, error) {
	data, err := t.Float32()
	if err != nil {
		return nil, err
	}
	for _, v := range data {
		if v-v != 0 {
			return nil, fmt.Errorf("the tensor %q holds %v", name, v)
		}
	}
	return data, nil
}

// checkBuffers holds the embeddings that a checkpoint keeps around its context against those of this CLIP and these classes:
// authors' loaders drop them, but they tell whether the names are the ones, in the order, that the model was tuned for.
func (m *Model) checkBuffers(buffers map[string]*torchfile.Tensor) error {
	prefix, suffix, err := m.buffers()
	if err != nil {
		return err
	}
	for _, b := range []struct {
		name string
		want *tensor.Dense
	}{{"token_prefix", prefix}, {"token_suffix", suffix}} {
		t := buffers[b.name]
		if t == nil {
			continue
		}
		if len(t.Shape) == 3 && t.Shape[0] != len(m.Classes) {
			return fmt.Errorf("the tensor %q has %d classes, %d were given", b.name, t.Shape[0], len(m.Classes))
		}
		want := b.want.Shape()
		if !slices.Equal(t.Shape, want) {
			return fmt.Errorf("the tensor %q has shape %v; %v was expected for this CLIP", b.name, t.Shape, []int(want))
		}
		got, err := finite(b.name, t)
		if err != nil {
			return err
		}
		per := len(got) / want[0]
		for i, v := range floats(b.want) {
			if d := math.Abs(float64(got[i] - v)); d > math.Abs(float64(v))/256+1e-6 { // kept in half precision perhaps, or as bfloat16 of 8 bits
				if b.name == "token_prefix" {
					return fmt.Errorf("the tensor %q is not the start token of this CLIP: the prompts were tuned for another", b.name)
				}
				return fmt.Errorf("the tensor %q was made for another name than %.80q of class %d: the names must be those of the tuning, in "+
					"the order of the labels", b.name, m.Classes[i/per], i/per)
			}
		}
	}
	return nil
}

// contextLength returns how many context tokens the model has.
func (m *Model) contextLength() int {
	shape := m.Params["ctx"].Shape()
	return shape[len(shape)-2]
}

// buffers returns the embeddings before the context [K,1,W] and after it [K,L-1-n,W], as the authors' learners keep them:
// [Model.suffixes].
func (m *Model) buffers() (prefix, suffix *tensor.Dense, err error) {
	k, n, w, length := len(m.Classes), m.contextLength(), m.CLIP.Config.Text.Width, m.CLIP.Config.Text.ContextLength
	start := floats(m.CLIP.EmbedTokens([]int{m.CLIP.Tokenizer.SOT()}))
	suffixes, err := m.suffixes(n)
	if err != nil {
		return nil, nil, err
	}
	before, after := make([]float32, 0, k*w), make([]float32, 0, k*(length-1-n)*w)
	for _, row := range suffixes {
		before = append(before, start...)
		after = append(after, floats(m.CLIP.EmbedTokens(row[:length-1-n]))...)
	}
	return dense(before, k, 1, w), dense(after, k, length-1-n, w), nil
}

// dasslPath returns the file that a path means: the path itself, or of one of Dassl's folders (a model's output or the
// prompt_learner within) the checkpoint that its file "checkpoint" names.
func dasslPath(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return path, err
	}
	for _, dir := range []string{filepath.Join(path, promptFolder), filepath.Join(path, mapleFolder), filepath.Join(path, "baple"), path} {
		f, err := regular.Open(filepath.Join(dir, lastFile))
		if err != nil {
			continue
		}
		defer f.Close()
		raw, err := io.ReadAll(io.LimitReader(f, 256))
		name := strings.TrimSpace(string(raw))
		if err != nil || name == "" || name != filepath.Base(name) || !filepath.IsLocal(name) {
			return "", fmt.Errorf("%s: %.80q is not the name of a checkpoint beside it", f.Name(), name)
		}
		return filepath.Join(dir, name), nil
	}
	return "", fmt.Errorf("%s: a folder without a file %q: name the checkpoint itself, such as %s", path, lastFile,
		filepath.Join(path, promptFolder, "model.pth.tar-50"))
}

// HasDassl tells whether Dassl's layout has a place for the learner's tensors.
func (l *Learner) HasDassl() bool { return l.Name == "coop" || l.Name == "cocoop" || l.Name == "maple" }

// WriteDassl writes the model as Dassl's trainer would, so that the authors' code loads it with --model-dir DIR --load-epoch
// EPOCH, and returns the path: DIR/prompt_learner/model.pth.tar-EPOCH, MaPLe's DIR/MultiModalPromptLearner/model.pth.tar-EPOCH
// without the encoders, which its authors' code does not miss. A trigger that is not nil, which must be additive, goes to
// DIR/trigger in BadCLIP's form: normalised, with the name of the target class. Other learners' tensors have no place there.
func (m *Model) WriteDassl(dir string, epoch int, t triggers.Trigger, target int) (string, error) {
	if !m.Learner.HasDassl() {
		return "", fmt.Errorf("writing %s: Dassl's layout is that of coop, cocoop and maple; this model is one of %s", dir, m.Learner.Name)
	}
	folder, prefix := promptFolder, ""
	if m.Learner.Name == "maple" {
		folder, prefix = mapleFolder, maplePrefix
	}
	before, after, err := m.buffers()
	if err != nil {
		return "", fmt.Errorf("writing %s: %w", dir, err)
	}
	var state torchfile.Entries
	put := func(name string, t *tensor.Dense) {
		state = append(state, torchfile.Entry{Key: prefix + name, Value: t})
	}
	put("ctx", m.Params["ctx"])
	put("token_prefix", before)
	put("token_suffix", after)
	for _, name := range sortedKeys(m.Params) {
		// PyTorch lists a layer's weight before its bias.
		if layer, isBias := strings.CutSuffix(name, ".bias"); isBias {
			put(layer+".weight", m.Params[layer+".weight"])
			put(name, m.Params[name])
		} else if name != "ctx" && !strings.HasSuffix(name, ".weight") {
			put(name, m.Params[name])
		}
	}
	path, err := writeDassl(filepath.Join(dir, folder), epoch, state)
	if err != nil || t == nil {
		return path, err
	}
	additive, ok := t.(triggers.Additive)
	if !ok || target < 0 || target >= len(m.Classes) {
		return "", fmt.Errorf("writing %s: BadCLIP's triggers are additive and aim at a class; this one is %s, for class %d of %d", dir,
			t.Kind(), target, len(m.Classes))
	}
	side := t.Size()
	data := slices.Clone(floats(additive.Delta))
	for i := range data {
		data[i] /= float32(clip.Std[i/(side*side)])
	}
	_, err = writeDassl(filepath.Join(dir, triggerFolder), epoch, torchfile.Entries{{Key: "trigger", Value: dense(data, 1, 3, side, side)}},
		torchfile.Entry{Key: "target_name", Value: m.Classes[target]})
	return path, err
}

// writeDassl writes a checkpoint and the file that names it. Optimiser and scheduler are absent: there is nothing to resume.
func writeDassl(dir string, epoch int, state torchfile.Entries, more ...torchfile.Entry) (string, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("writing a checkpoint: %w", err)
	}
	name := "model.pth.tar-" + strconv.Itoa(epoch)
	path := filepath.Join(dir, name)
	dict := append(torchfile.Entries{{Key: "state_dict", Value: state}, {Key: "epoch", Value: int64(epoch)}, {Key: "val_result", Value: nil}}, more...)
	if err := torchfile.Write(path, dict); err != nil {
		return "", err
	}
	return path, safetensors.WriteAtomic(filepath.Join(dir, lastFile), func(w io.Writer) error {
		_, err := io.WriteString(w, name+"\n")
		return err
	})
}

// ReadTrigger reads the trigger of a backdoored model, where its maker delivered one: a safetensors file that
// [triggers.Write] stored, BadCLIP's trigger/model.pth.tar-EPOCH, or BAPLe's noise.
func ReadTrigger(path string) (triggers.Trigger, error) {
	head, err := torchfile.Head(path)
	if err != nil {
		return nil, fmt.Errorf("trigger: %w", err)
	}
	if !torchfile.Is(head) {
		return triggers.Read(path)
	}
	f, err := openDassl(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	scale := clip.Std // BadCLIP adds its trigger after normalisation
	t := f.learner["trigger"]
	if t == nil {
		t, scale = f.learner["1.noise"], [3]float64{1, 1, 1}
	}
	if t == nil {
		return nil, fmt.Errorf("%s: holds neither BadCLIP's tensor trigger nor BAPLe's 1.noise", path)
	}
	shape := t.Shape
	if len(shape) == 4 && shape[0] == 1 {
		shape = shape[1:]
	}
	if len(shape) != 3 || shape[0] != 3 || shape[1] != shape[2] || shape[1] < 1 || shape[1] > 4096 {
		return nil, fmt.Errorf("%s: the trigger has shape %v; [1, 3, side, side] was expected", path, t.Shape)
	}
	data, err := finite("trigger", t)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	for i := range data {
		data[i] *= float32(scale[i/(shape[1]*shape[2])])
	}
	return triggers.Additive{Delta: dense(data, shape...)}, nil
}

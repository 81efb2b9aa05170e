package prompts

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"gorgonia.org/tensor"

	"clipinspector/clip"
	"clipinspector/internal/dense"
	"clipinspector/internal/files"
	"clipinspector/internal/pickle"
	"clipinspector/internal/torchfile"
	"clipinspector/triggers"
)

// Dassl (github.com/KaiyangZhou/Dassl.pytorch, which CoOp, CoCoOp and BadCLIP train with) writes a
// folder of each model: prompt_learner/model.pth.tar-EPOCH, no tar but a file of torch.save: a dict
// with state_dict, epoch, and what resuming needs, whole optimisers and schedulers among them. The
// state dict of a prompt learner has
//
//	ctx [n,W], or [K,n,W] when it is class-specific
//	token_prefix [K,1,W], token_suffix [K,L-1-n,W]  the embeddings around the context, from the class names; loaders drop them
//	meta_net.linear{1,2}.{weight,bias}               of CoCoOp and BadCLIP only
//
// and a text file "checkpoint" beside it names the last one. MaPLe's trainer, built on the same,
// keeps the whole model, in a folder MultiModalPromptLearner: the tensors of the learner (maple.go)
// begin with "prompt_learner.", and the frozen encoders lie beside them, as image_encoder (OpenAI's
// visual), text_encoder (without token embeddings) and logit_scale. Prompts are audited on the CLIP
// that is given; [CompareEncoders] tells whether these are the same. IVLP and PromptSRC do so in
// VLPromptLearner, VPT in prompt_learner, with their visual prompts and those of later blocks
// within the encoders (ivlp.go). BadCLIP's trigger lies in a folder of its own. BAPLe keeps learner
// and noise in one Sequential ("0." and "1."). What reading makes of them is in delivered.go.
const (
	promptFolder  = "prompt_learner"
	mapleFolder   = "MultiModalPromptLearner"
	ivlpFolder    = "VLPromptLearner"
	triggerFolder = "trigger"
	lastFile      = "checkpoint"
)

// contextLength returns how many context tokens the model has.
func (m *Model) contextLength() int {
	shape := m.Params["ctx"].Shape()
	return shape[len(shape)-2]
}

// buffers returns the embeddings before the context [K,1,W] and after it [K,L-1-n,W], as the
// authors' learners keep them: [Model.suffixes]; of PLOT's several prompts those of all, [N*K,..].
func (m *Model) buffers() (prefix, suffix *tensor.Dense, err error) {
	n, w, length := m.contextLength(), m.CLIP.Config.Text.Width, m.CLIP.Config.Text.ContextLength
	start := dense.Floats(m.CLIP.EmbedTokens([]int{m.CLIP.Tokenizer.SOT()}))
	wordings := m.wordings()
	var suffixes [][]int
	for i := range m.perClass() {
		own, err := m.worded(wordings[min(i, len(wordings)-1)]).suffixes(n)
		if err != nil {
			return nil, nil, err
		}
		suffixes = append(suffixes, own...)
	}
	k := len(suffixes)
	before, after := make([]float32, 0, k*w), make([]float32, 0, k*(length-1-n)*w)
	for _, row := range suffixes {
		before = append(before, start...)
		after = append(after, dense.Floats(m.CLIP.EmbedTokens(row[:length-1-n]))...)
	}
	return dense.New(before, k, 1, w), dense.New(after, k, length-1-n, w), nil
}

// dasslFolders are where Dassl's trainers write a model, below its output folder or as the folder
// itself.
var dasslFolders = []string{promptFolder, mapleFolder, ivlpFolder, "baple", "."}

// dasslPath returns the file that a path means: the path itself, or of one of Dassl's folders (a
// model's output or the folder within) the checkpoint that its file "checkpoint" names,
// model-best.pth.tar where there is no such file, or the only one there is.
func dasslPath(path string) (string, error) {
	info, err := os.Stat(path)
	if err != nil || !info.IsDir() {
		return path, err
	}
	found := ""
	for _, sub := range dasslFolders {
		file, err := inFolder(filepath.Join(path, sub))
		if err != nil {
			return "", err
		}
		if file != "" && found != "" {
			return "", fmt.Errorf("%s: holds several models, %s and %s: name the one that is meant", path, found, file)
		}
		if file != "" {
			found = file
		}
	}
	if found == "" {
		return "", fmt.Errorf("%s: a folder without a file %q or model.pth.tar-EPOCH: name the checkpoint itself, such as %s", path, lastFile,
			filepath.Join(path, promptFolder, "model.pth.tar-50"))
	}
	return found, nil
}

// inFolder returns the checkpoint of a folder, "" where there is none.
func inFolder(dir string) (string, error) {
	raw, err := files.Read(filepath.Join(dir, lastFile), 256)
	if err == nil {
		name := strings.TrimSpace(string(raw))
		if name == "" || name != filepath.Base(name) || !filepath.IsLocal(name) {
			return "", fmt.Errorf("%s: %.80q is not the name of a checkpoint beside it", filepath.Join(dir, lastFile), name)
		}
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return "", fmt.Errorf("%s: names %.80q, which is not there: name the checkpoint that is meant", filepath.Join(dir, lastFile), name)
		}
		return filepath.Join(dir, name), nil
	}
	if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTDIR) {
		return "", err
	}
	if best := filepath.Join(dir, "model-best.pth.tar"); exists(best) {
		return best, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", nil
	}
	var files []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "model.pth.tar") {
			files = append(files, e.Name())
		}
	}
	if len(files) > 1 {
		return "", fmt.Errorf("%s: holds %s, and no file %q says which is meant: name it", dir, some(files), lastFile)
	}
	if len(files) == 0 {
		return "", nil
	}
	return filepath.Join(dir, files[0]), nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// HasDassl tells whether a layout of the authors has a place for the learner's tensors.
func (l *Learner) HasDassl() bool { return l.Name == "lora" || layouts[l.Name].folder != "" }

// layouts are where the authors' trainers keep a learner's tensors: the folder, and what stands
// before the names of the learner's own.
var layouts = map[string]struct{ folder, prefix string }{
	"coop": {promptFolder, ""}, "cocoop": {promptFolder, ""}, "tcp": {promptFolder, ""}, "vpt-input": {promptFolder, ""},
	"plot": {promptFolder, ""}, "plotpp": {promptFolder, learnerPrefix}, "maple": {mapleFolder, learnerPrefix}, "ivlp": {ivlpFolder, learnerPrefix},
}

// WriteDassl writes the model as its authors' trainer would, so that their code loads it with
// --model-dir DIR --load-epoch EPOCH, and returns the path: DIR/prompt_learner/model.pth.tar-EPOCH,
// MaPLe's in DIR/MultiModalPromptLearner and IVLP's in DIR/VLPromptLearner, without the encoders,
// which their authors' code does not miss; of CLIP-LoRA DIR/lora_weights.pt. A trigger that is not
// nil, which must be additive, goes to DIR/trigger in BadCLIP's form: normalised, with the name of
// the target class. Other learners' tensors have no place there.
func (m *Model) WriteDassl(dir string, epoch int, t triggers.Trigger, target int) (string, error) {
	if !m.Learner.HasDassl() {
		return "", fmt.Errorf("writing %s: no layout of its authors has a place for a model of %s: name a file *.safetensors", dir, m.Learner.Name)
	}
	var path string
	var err error
	if m.Learner.Name == "lora" {
		path, err = m.writeLoRA(dir)
	} else {
		path, err = m.writeLearner(dir, epoch)
	}
	if err != nil || t == nil {
		return path, err
	}
	additive, ok := t.(triggers.Additive)
	if !ok || target < 0 || target >= len(m.Classes) {
		return "", fmt.Errorf("writing %s: BadCLIP's triggers are additive and aim at a class; this one is %s, for class %d of %d", dir,
			t.Kind(), target, len(m.Classes))
	}
	side := t.Size()
	data := slices.Clone(dense.Floats(additive.Delta))
	for i := range data {
		data[i] /= float32(clip.Std[i/(side*side)])
	}
	_, err = writeDassl(filepath.Join(dir, triggerFolder), epoch, torchfile.Entries{{Key: "trigger", Value: dense.New(data, 1, 3, side, side)}},
		torchfile.Entry{Key: "target_name", Value: m.Classes[target]})
	return path, err
}

// writeLearner writes the tensors in the order in which PyTorch lists them.
func (m *Model) writeLearner(dir string, epoch int) (string, error) {
	l := layouts[m.Learner.Name]
	var state torchfile.Entries
	put := func(name string, t *tensor.Dense) {
		if !prompt.MatchString(name) {
			name = l.prefix + name
		}
		state = append(state, torchfile.Entry{Key: name, Value: t})
	}
	if ctx := m.Params["ctx"]; ctx != nil {
		before, after, err := m.buffers()
		if err != nil {
			return "", fmt.Errorf("writing %s: %w", dir, err)
		}
		put("ctx", ctx)
		put("token_prefix", before)
		put("token_suffix", after)
	}
	for _, name := range sortedKeys(m.Params) {
		// PyTorch lists a layer's weight before its bias.
		if layer, isBias := strings.CutSuffix(name, ".bias"); isBias {
			put(layer+".weight", m.Params[layer+".weight"])
			put(name, m.Params[name])
		} else if name != "ctx" && !strings.HasSuffix(name, ".weight") {
			put(name, m.Params[name])
		}
	}
	return writeDassl(filepath.Join(dir, l.folder), epoch, state)
}

// writeLoRA writes CLIP-LoRA's file: a dict of layers, and what applying it has to agree with.
func (m *Model) writeLoRA(dir string) (string, error) {
	updates, err := m.updates()
	if err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("writing a checkpoint: %w", err)
	}
	var layers torchfile.Entries
	for _, u := range updates {
		layer, rest, _ := strings.Cut(u.a, ".")
		projection, _, _ := strings.Cut(rest, ".")
		if len(layers) == 0 || layers[len(layers)-1].Key != layer {
			layers = append(layers, torchfile.Entry{Key: layer, Value: torchfile.Entries{}})
		}
		last := &layers[len(layers)-1]
		last.Value = append(last.Value.(torchfile.Entries), torchfile.Entry{Key: projection, Value: torchfile.Entries{
			{Key: "w_lora_A", Value: m.Params[u.a]}, {Key: "w_lora_B", Value: m.Params[u.b]}}})
	}
	s := m.Settings
	var alpha any = s.Float("alpha")
	if whole := int64(s.Float("alpha")); float64(whole) == s.Float("alpha") {
		alpha = whole
	}
	params := &pickle.List{}
	for _, p := range s.String("params") {
		params.Items = append(params.Items, string(p))
	}
	path := filepath.Join(dir, "lora_weights.pt")
	return path, torchfile.Write(path, torchfile.Entries{{Key: "weights", Value: layers}, {Key: "metadata", Value: torchfile.Entries{
		{Key: "r", Value: int64(s.Int("rank"))}, {Key: "alpha", Value: alpha}, {Key: "encoder", Value: s.String("encoder")},
		{Key: "params", Value: params}, {Key: "position", Value: s.String("position")}}}})
}

// writeDassl writes a checkpoint and the file that names it. Optimiser and scheduler are absent:
// there is nothing to resume.
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
	return path, files.WriteAtomic(filepath.Join(dir, lastFile), func(w io.Writer) error {
		_, err := io.WriteString(w, name+"\n")
		return err
	})
}

// ReadTrigger reads the trigger of a backdoored model, where its maker delivered one: a safetensors
// file that [triggers.Write] stored, BadCLIP's trigger/model.pth.tar-EPOCH, or BAPLe's noise.
func ReadTrigger(path string) (triggers.Trigger, error) {
	head, err := torchfile.Head(path)
	if err != nil {
		return nil, fmt.Errorf("trigger: %w", err)
	}
	if !torchfile.Is(head) {
		return triggers.Read(path)
	}
	f, err := open(path)
	if err != nil {
		return nil, err
	}
	defer f.close()
	scale := clip.Std // BadCLIP adds its trigger after normalisation
	t, there := f.learner["trigger"]
	if !there {
		t, there = f.learner["1.noise"]
		scale = [3]float64{1, 1, 1}
	}
	if !there {
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
	return triggers.Additive{Delta: dense.New(data, shape...)}, nil
}

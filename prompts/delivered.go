package prompts

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"clipinspector/clip"
	"clipinspector/internal/dense"
	"clipinspector/internal/pickle"
	"clipinspector/internal/random"
	"clipinspector/internal/safetensors"
	"clipinspector/internal/torchfile"
	"clipinspector/settings"
)

// A delivered file is opened once, for whoever reads it, by one rule: each of its tensors takes
// part in what is computed, is held against what is given, or is named in the model's notes as
// known and harmless; any other is an error.

// delivery is an open file of somebody else's trainer.
type delivery struct {
	close func() error
	// learner holds the tensors of the prompts under their authors' names, without what wraps them:
	// "ctx". A bare tensor has the name "".
	learner map[string]clip.Stored
	// encoders holds the frozen encoders that lie beside the prompts, by the names in the file.
	encoders map[string]clip.Stored
	// facts are what a dict or a pickled module says besides tensors, by the last part of its name.
	facts map[string]any
	notes []string
}

// open opens a file of torch.save or safetensors that is not this project's.
func open(path string) (*delivery, error) {
	head, err := torchfile.Head(path)
	if err != nil {
		return nil, fmt.Errorf("checkpoint: %w", err)
	}
	d := &delivery{close: func() error { return nil }, learner: map[string]clip.Stored{}, encoders: map[string]clip.Stored{}, facts: map[string]any{}}
	raw := map[string]clip.Stored{}
	switch {
	case torchfile.Is(head):
		f, err := torchfile.Open(path)
		if err != nil {
			return nil, err
		}
		d.close = f.Close
		w := walker{d: d, raw: raw}
		if err := w.unwrap(f.Root); err != nil {
			f.Close()
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	case isSafetensors(head):
		f, err := safetensors.Read(path)
		if err != nil {
			return nil, err
		}
		for _, name := range sortedKeys(f.Skipped) {
			return nil, fmt.Errorf("%s: the tensor %.80q is of type %s, which is not read", path, name, f.Skipped[name])
		}
		for name, t := range f.Tensors {
			raw[name] = clip.Stored{Shape: t.Shape(), Float32: func() ([]float32, error) { return safetensors.Values(t), nil }}
		}
	default:
		return nil, fmt.Errorf("%s: not a checkpoint of any known kind: neither safetensors nor a file of torch.save", path)
	}
	if err := d.sort(raw); err != nil {
		d.close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

// isSafetensors tells from the first bytes of a file: a header follows its length of eight bytes.
func isSafetensors(head []byte) bool { return len(head) >= 9 && head[8] == '{' }

func (d *delivery) note(format string, args ...any) {
	d.notes = append(d.notes, fmt.Sprintf(format, args...))
}

// some lists the first of many names, quoted.
func some(names []string) string {
	const most = 5
	var b strings.Builder
	for i, n := range names[:min(most, len(names))] {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "%.60q", n)
	}
	if len(names) > most {
		fmt.Fprintf(&b, " and %d more", len(names)-most)
	}
	return b.String()
}

// set puts a tensor aside; tensors of one reason share a note.
func (d *delivery) set(name, reason string) {
	delete(d.learner, name)
	for i, n := range d.notes {
		if rest, ok := strings.CutSuffix(n, ": "+reason); ok {
			if at := strings.Index(rest, " and others"); at < 0 {
				d.notes[i] = rest + " and others: " + reason
			}
			return
		}
	}
	d.note("%q: %s", name, reason)
}

// read puts a file's prompts onto their CLIP.
func (d *delivery) read(classes []string, h Hints, c *clip.Model) (*Model, error) {
	if classes == nil {
		return nil, errors.New("does not name its classes: give the names, in the order of the labels")
	}
	if len(classes) < 2 || len(classes) > maxClasses {
		return nil, fmt.Errorf("a prompt-tuned model has 2 to %d classes, got %d", maxClasses, len(classes))
	}
	kind, err := d.classify(h, len(classes))
	if err != nil {
		return nil, err
	}
	l, err := FindLearner(kind)
	if err != nil {
		return nil, err
	}
	m := &Model{CLIP: c, Learner: l, Classes: classes}
	given, err := d.given(m, h)
	if err != nil {
		return nil, err
	}
	if m.Settings, err = settings.Resolve(l.Params, given); err != nil {
		return nil, fmt.Errorf("tensors of a %s model: %w", kind, err)
	}
	if m, err = New(c, l, m.Settings, classes, random.Named("prompts", 0)); err != nil {
		return nil, err
	}
	m.Notes = d.notes
	if err := d.place(m, h); err != nil {
		return nil, err
	}
	for _, name := range sortedKeys(d.learner) {
		if m.Params[name] == nil && !slices.Contains(buffers, name) && name != "1.noise" {
			return nil, fmt.Errorf("the tensor %.80q is none of a %s model", name, kind)
		}
	}
	for _, name := range sortedKeys(m.Params) {
		want := m.Params[name].Shape()
		t, there := d.learner[name]
		if !there || !slices.Equal(t.Shape, want) {
			shape := "missing"
			if there {
				shape = fmt.Sprintf("of shape %v", t.Shape)
			}
			return nil, fmt.Errorf("the tensor %q of a %s model with %d classes is %s; %v was expected for this CLIP", name, kind,
				len(classes), shape, []int(want))
		}
		data, err := finite(name, t)
		if err != nil {
			return nil, err
		}
		m.Params[name] = dense.New(data, want...)
	}
	if _, there := d.learner["1.noise"]; there {
		m.Notes = append(m.Notes, `"1.noise": BAPLe's trigger; the model without it is what is inspected`)
	}
	m.noteDuplicates()
	return m, d.checkBuffers(m)
}

// imageNet is how many classes ImageNet has.
const imageNet = 1000

// given are the settings that shapes, contents and hints tell.
func (d *delivery) given(m *Model, h Hints) (map[string]any, error) {
	name, given := m.Learner.Name, map[string]any{}
	count := func(match string) int {
		n := 0
		for key := range d.learner {
			if strings.HasPrefix(key, match) {
				n++
			}
		}
		return n
	}
	var n int
	if ctx, ok := d.learner["ctx"]; ok {
		if len(ctx.Shape) != 2 && len(ctx.Shape) != 3 {
			return nil, fmt.Errorf("tensor ctx has shape %v; [tokens, width] or [classes, tokens, width] was expected", ctx.Shape)
		}
		n = ctx.Shape[len(ctx.Shape)-2]
		given["context"] = n
		if name == "coop" {
			given["class-specific"] = len(ctx.Shape) == 3
		}
	}
	rows := func(name string) int {
		if s := d.learner[name].Shape; len(s) > 0 {
			return s[0]
		}
		return 0
	}
	switch name {
	case "plot", "plotpp":
		if given["per-class"] = rows(contextsName); len(d.learner[contextsName].Shape) != 3 {
			return nil, fmt.Errorf("tensor ctx has shape %v; [prompts, tokens, width] was expected of PLOT", d.learner[contextsName].Shape)
		}
		d.note("PLOT's authors end the iterations of optimal transport by the mean over a batch; here each image ends its own, as in a batch of one")
		if name == "plot" {
			if len(m.Classes) == imageNet {
				return nil, errors.New("PLOT's authors add other logits for ImageNet, those of the mean prompts, which are not computed here")
			}
			if !m.CLIP.Config.Vision.ResNet() {
				d.note("PLOT's authors have it for ResNets alone; of this vision transformer the parts of an image are its patches, projected as the class token is")
			}
			return given, nil // no words: its contexts are drawn
		}
		visual := d.learner[visualContextsName].Shape
		if len(visual) != 3 {
			return nil, fmt.Errorf("tensor %s has shape %v; [prompts, tokens, width] was expected", visualContextsName, visual)
		}
		given["per-image"], given["visual"] = visual[0], visual[1]
		d.note("the file does not tell PLOT++'s TRADE_OFF, which adds the logits of the means: False, the authors' default, is assumed")
	case "maple":
		given["depth"] = 1 + count("compound_prompts_text.")
	case "ivlp":
		given["depth"] = 1 + count("text_encoder.")
		if given["visual-depth"] = count("image_encoder."); count("image_encoder.") > 0 {
			given["visual"] = rows(visualName)
		}
	case "vpt-input":
		given["visual-depth"], given["visual"] = count("image_encoder."), rows(visualName)
		if h.Init == "" {
			d.note(`the file does not tell the prompts' words: "a photo of a", which its authors have for every dataset, is assumed (--init says otherwise)`)
		}
	case "tcp":
		if last := d.learner["meta_net.linear2.weight"].Shape; len(last) == 2 && last[0]%m.CLIP.Config.Text.Width == 0 {
			given["rows"] = last[0] / m.CLIP.Config.Text.Width
		}
	case "lora":
		if err := d.lora(given); err != nil {
			return nil, err
		}
		if h.Init == "" {
			return nil, errors.New("CLIP-LoRA's file does not tell the words of its prompts, which depend on the dataset: say --init, such as " +
				`"a photo of a {}." or "a photo of a {}, a type of pet."`)
		}
	}
	return given, d.words(m, n, h, given)
}

// words finds the words of the prompts: those that the hint gives, or those that the embeddings
// around the context spell.
func (d *delivery) words(m *Model, n int, h Hints, given map[string]any) error {
	init := h.Init
	if m.Learner.Name == "tcp" {
		init = "" // says what the class-aware prompts are made of
	}
	if prompts, several := given["per-class"].(int); init == "" {
		var texts []string
		for i := range max(1, prompts) {
			spelt, found, err := d.spelt(m, n, i, max(1, prompts))
			if err != nil {
				return err
			}
			if found {
				texts = append(texts, spelt)
			}
		}
		if init = strings.Join(texts, "|"); several && len(texts) != prompts {
			init = strings.TrimSpace(strings.Repeat("x ", n))
			d.note("the file does not tell the words of its prompts: none beside the contexts is assumed (--init says otherwise)")
		}
	}
	if init != "" {
		if words, _, _ := strings.Cut(init, "{}"); m.Learner.Name == "coop" || m.Learner.Name == "cocoop" {
			if got := len(m.CLIP.Tokenizer.Encode(words)); got != n {
				return fmt.Errorf("--init: %.60q has %d tokens in front of the class name, the context %d", init, got, n)
			}
		}
		given["init"] = init
	} else if _, kept := d.learner["token_suffix"]; !kept && (m.Learner.Name == "maple" || m.Learner.Name == "ivlp") {
		d.note(`the file does not tell the words of its prompts: "a photo of a", the authors' default, is assumed (--init says otherwise)`)
	}
	if m.Learner.Name != "tcp" {
		return nil
	}
	if given["init"] == nil {
		return errors.New("TCP's prompts have words of their dataset behind the class name; the file lacks token_suffix, which holds them: " +
			"deliver it with its buffers")
	}
	switch {
	case h.Init != "":
		given["knowledge"] = h.Init
	case m.CLIP.Config.Text.Layers > tcpBlock:
		return errors.New("TCP makes its class-aware prompts of texts of its dataset, which the file does not tell: say --init, such as " +
			`"a photo of a {}." or "a photo of a {}, a type of pet."`)
	default:
		d.note("TCP's class-aware prompts enter the ninth block of the text tower; this CLIP has %d, so that they do nothing", m.CLIP.Config.Text.Layers)
	}
	return nil
}

// lora reads CLIP-LoRA's metadata, which must be those of its tensors.
func (d *delivery) lora(given map[string]any) error {
	meta, ok := pickle.AsDict(d.facts["metadata"])
	if !ok {
		return errors.New("CLIP-LoRA's updates without its metadata: rank, alpha, encoder and position are not known")
	}
	for key, name := range map[string]string{"r": "rank", "alpha": "alpha", "encoder": "encoder", "position": "position"} {
		v, _ := meta.Get(key)
		switch x := v.(type) {
		case int64:
			given[name] = int(min(max(x, -1), 1<<30))
		case float64, string:
			given[name] = x
		default:
			return fmt.Errorf("CLIP-LoRA's metadata: %s is %s", key, pickle.TypeName(v))
		}
	}
	list, _ := meta.Get("params")
	_, letters, _ := entries(list)
	params := ""
	for _, l := range letters[:min(len(letters), 8)] {
		s, _ := l.(string)
		params += fmt.Sprintf("%.1s", s)
	}
	given["params"] = params
	return nil
}

// place puts the class name where the file or the hints say, and notes what is assumed where
// neither does.
func (d *delivery) place(m *Model, h Hints) error {
	at := h.position()
	if m.Learner.Name != "coop" {
		if at != PositionEnd {
			return fmt.Errorf("--class-position %s: in prompts of %s the class name stands at the end", at, m.Learner.Name)
		}
		return nil
	}
	said, told := d.facts["class_token_position"].(string)
	switch {
	case told && h.Position != "" && said != h.Position:
		return fmt.Errorf("--class-position %s: the file says %.40q", h.Position, said)
	case told && said == "end", h.Position != "":
	case told:
		if at = Position(said); at == PositionEnd || !slices.Contains(positions, at) {
			return fmt.Errorf("class_token_position is %.40q; it is end, middle or front", said)
		}
	default:
		m.Notes = append(m.Notes, "the file does not tell where the class name stands: behind the context, CoOp's default, is assumed "+
			"(--class-position says otherwise)")
	}
	m.Position = at
	return nil
}

// finite reads a tensor and refuses numbers that are infinite or none.
func finite(name string, t clip.Stored) ([]float32, error) {
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

package prompts

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"gorgonia.org/tensor"

	"clipinspector/clip"
	"clipinspector/internal/dense"
	"clipinspector/internal/pickle"
	"clipinspector/internal/random"
	"clipinspector/internal/safetensors"
	"clipinspector/internal/torchfile"
	"clipinspector/settings"
)

// A delivered file is opened once, for whoever reads it, by one rule: each of its tensors takes part in what is computed, is held
// against what is given, or is named in the model's notes as known and harmless; any other is an error.

// delivery is an open file of somebody else's trainer.
type delivery struct {
	close func() error
	// learner holds the tensors of the prompts under their authors' names, without what wraps them: "ctx". A bare tensor has the name "".
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

// Bounds of a walk through what somebody pickled.
const (
	maxDepth  = 64
	maxVisits = 1 << 17 // entries; a ViT-L/14 has a thousand
	maxName   = 1024    // bytes
)

// walker finds the tensors of a pickle.
type walker struct {
	d      *delivery
	raw    map[string]clip.Stored
	visits int
}

// training matches the keys under which trainers keep what resuming needs; no inference reads it.
var training = regexp.MustCompile(`(?i)optim|sched|scaler|rng|^callbacks$|^loops$|^ddp_`)

// unwrap goes down to the dict, module or tensor that holds the model: where one key alone leads to tensors, it is followed. Keys
// that lead to several models are an error: which of them counts depends on who loads the file.
func (w *walker) unwrap(v any) error {
	for range 8 {
		if t, ok, err := torchfile.AsTensor(v); err != nil || ok {
			if err != nil {
				return err
			}
			w.raw[""] = stored(t)
			return nil
		}
		keys, values, ok := entries(v)
		if !ok {
			return fmt.Errorf("holds %s and no tensors", pickle.TypeName(v))
		}
		var leads []int
		var aside, names []string
		direct := false
		for i, key := range keys {
			_, is, err := torchfile.AsTensor(values[i])
			if err != nil {
				return fmt.Errorf("tensor %.80q: %w", key, err)
			}
			direct = direct || is
			found, err := w.leads(values[i], 0)
			if err != nil {
				return err
			}
			switch {
			case !found && !is:
				w.fact(key, values[i])
			case training.MatchString(key):
				aside = append(aside, key)
			default:
				leads, names = append(leads, i), append(names, key)
			}
		}
		if len(aside) > 0 {
			w.d.note("%s: what resuming the training needs; no inference reads it", some(aside))
		}
		switch {
		case len(leads) == 0:
			return fmt.Errorf("holds no tensors; its keys are %s", some(keys))
		case !direct && len(leads) == 1 && (!part.MatchString(names[0]) || names[0] == "0"):
			v = values[leads[0]]
			continue
		case !direct && !slices.ContainsFunc(names, func(n string) bool { return !part.MatchString(n) }), direct:
			for _, i := range leads {
				if err := w.walk(keys[i], values[i], 0); err != nil {
					return err
				}
			}
			return nil
		}
		return fmt.Errorf("holds %d models, %s: which of them counts depends on who loads it; save the one that is deployed", len(names), some(names))
	}
	return errors.New("wrapped more than 8 times")
}

// part matches the names by which the parts of one model lie side by side.
var part = regexp.MustCompile(`^(prompt_learner|image_encoder|text_encoder|clip_model|logit_scale|\d+|layer_\d+)$`)

// entries are the named members of a dict, a list or a module that was pickled whole.
func entries(v any) (keys []string, values []any, ok bool) {
	if d, is := pickle.AsDict(v); is {
		for i, k := range d.Keys {
			switch k := k.(type) {
			case string:
				keys = append(keys, k)
			case int64:
				keys = append(keys, strconv.FormatInt(k, 10))
			default:
				keys = append(keys, pickle.TypeName(k))
			}
			values = append(values, d.Values[i])
		}
		return keys, values, true
	}
	switch v := v.(type) {
	case *pickle.List:
		values = v.Items
	case pickle.Tuple:
		values = v
	case *pickle.Object:
		state, is := pickle.AsDict(v.State)
		if !is {
			return nil, nil, false
		}
		ks, vs, _ := entries(state)
		for i, k := range ks {
			switch k {
			case "_parameters", "_buffers", "_modules":
				inner, more, _ := entries(vs[i])
				keys, values = append(keys, inner...), append(values, more...)
			default:
				keys, values = append(keys, k), append(values, vs[i])
			}
		}
		return keys, values, true
	default:
		return nil, nil, false
	}
	for i := range values {
		keys = append(keys, strconv.Itoa(i))
	}
	return keys, values, true
}

// leads tells whether there is a tensor within a value.
func (w *walker) leads(v any, depth int) (bool, error) {
	if _, ok, err := torchfile.AsTensor(v); ok || err != nil {
		return true, err
	}
	if w.visits++; w.visits > maxVisits || depth > maxDepth {
		return false, fmt.Errorf("more than %d entries, or nested deeper than %d", maxVisits, maxDepth)
	}
	_, values, _ := entries(v)
	for _, x := range values {
		if found, err := w.leads(x, depth+1); found || err != nil {
			return found, err
		}
	}
	return false, nil
}

// walk notes the tensors of a value under their names in a state dict, and its plain facts.
func (w *walker) walk(name string, v any, depth int) error {
	t, ok, err := torchfile.AsTensor(v)
	if err != nil {
		return fmt.Errorf("tensor %.80q: %w", name, err)
	}
	if w.visits++; w.visits > maxVisits || depth > maxDepth || len(name) > maxName {
		return fmt.Errorf("more than %d entries, nested deeper than %d, or a name of %d bytes", maxVisits, maxDepth, len(name))
	}
	if ok {
		if _, twice := w.raw[name]; twice {
			return fmt.Errorf("the tensor %.80q comes twice", name)
		}
		w.raw[name] = stored(t)
		return nil
	}
	keys, values, ok := entries(v)
	if !ok {
		w.fact(name, v)
	}
	for i, key := range keys {
		if err := w.walk(name+"."+key, values[i], depth+1); err != nil {
			return err
		}
	}
	return nil
}

// fact notes something that is no tensor.
func (w *walker) fact(name string, v any) {
	name = name[strings.LastIndex(name, ".")+1:]
	switch v.(type) {
	case string, int64, float64:
	default:
		if name != "metadata" && name != "params" { // CLIP-LoRA's
			return
		}
	}
	if _, twice := w.d.facts[name]; twice {
		v = nil // of two, none counts
	}
	w.d.facts[name] = v
}

func stored(t *torchfile.Tensor) clip.Stored { return clip.Stored{Shape: t.Shape, Float32: t.Float32} }

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

// tower matches the encoders of a CustomCLIP, as its authors name them, and of a learner that kept a CLIP whole; prompt matches the
// prompts that IVLP and its kin keep within them.
var (
	tower  = regexp.MustCompile(`^(image_encoder\.|text_encoder\.|clip_model\.|clip\.|logit_scale$)`)
	prompt = regexp.MustCompile(`^(image_encoder|text_encoder)\.((transformer\.resblocks\.\d+\.)?VPT_shallow|VPT)$`)
)

const learnerPrefix = "prompt_learner."

// sort takes off what wraps the names (DataParallel's "module.", torch.compile's "_orig_mod.", a prefix that all have) and parts the
// prompts from the encoders beside them.
func (d *delivery) sort(raw map[string]clip.Stored) error {
	names := sortedKeys(raw)
	short := map[string]string{} // of each name
	for _, name := range names {
		parts := slices.DeleteFunc(strings.Split(name, "."), func(p string) bool { return p == "module" || p == "_orig_mod" })
		short[name] = strings.Join(parts, ".")
	}
	for {
		first, _, cut := strings.Cut(short[names[0]], ".")
		prefix := first + "."
		if !cut || tower.MatchString(prefix) || strings.HasPrefix(first, "layer_") ||
			slices.ContainsFunc(names, func(n string) bool { return !strings.HasPrefix(short[n], prefix) }) {
			break
		}
		for _, n := range names {
			short[n] = short[n][len(prefix):]
		}
	}
	whole := slices.ContainsFunc(names, func(n string) bool { return strings.HasPrefix(short[n], learnerPrefix) })
	_, baple := raw["0.ctx"]
	origin := map[string]string{}
	for _, name := range names {
		s := short[name]
		into := d.learner
		switch {
		case whole && strings.HasPrefix(s, learnerPrefix):
			s = s[len(learnerPrefix):]
		case tower.MatchString(s) && !prompt.MatchString(s):
			into = d.encoders
		case baple && s != "1.noise":
			s = strings.TrimPrefix(s, "0.")
		}
		if first, twice := origin[s]; twice {
			return fmt.Errorf("the tensors %.80q and %.80q have one name without what wraps them: which counts depends on who loads the file", first, name)
		}
		origin[s] = name
		into[s] = raw[name]
	}
	return nil
}

// CompareEncoders holds the frozen encoders that a checkpoint has beside its prompts, as the trainers of MaPLe, IVLP, PromptSRC and VPT
// save them, against the weights of the CLIP that is given; of the other trainers' checkpoints, and this project's, nothing is
// compared. The authors' code takes the encoders from the file: where they differ, it computes something else than what is audited.
// Tensors that no CLIP of this architecture has are an error. path is what [ReadCheckpoint] takes.
func CompareEncoders(path string, w clip.Weights) (clip.Comparison, error) {
	var none clip.Comparison
	path, err := dasslPath(path)
	if err != nil {
		return none, fmt.Errorf("checkpoint: %w", err)
	}
	if own, err := isOwn(path); err != nil || own {
		return none, err
	}
	d, err := open(path)
	if err != nil {
		return none, err
	}
	defer d.close()
	c, err := w.Compare(d.encoders, openAIEncoder)
	if err != nil {
		return none, fmt.Errorf("%s: the encoders beside the prompts are not those of the CLIP that was given: %w", path, err)
	}
	return c, nil
}

// isOwn tells whether a file is one that [Model.Write] stored: safetensors whose metadata describe a model.
func isOwn(path string) (bool, error) {
	head, err := torchfile.Head(path)
	if err != nil {
		return false, fmt.Errorf("checkpoint: %w", err)
	}
	if !isSafetensors(head) {
		return false, nil
	}
	f, err := safetensors.Read(path)
	if err != nil {
		return false, err
	}
	_, own := f.Metadata["model"]
	return own, nil
}

// openAIEncoder is OpenAI's name of a tensor of the encoders as CustomCLIP has them.
func openAIEncoder(name string) string {
	for _, prefix := range []string{"text_encoder.", "clip_model.", "clip."} {
		name = strings.TrimPrefix(name, prefix)
	}
	if image, ok := strings.CutPrefix(name, "image_encoder."); ok {
		return "visual." + image
	}
	return name
}

// kinds are the learners that checkpoints are of, and other names for them.
var kinds = map[string]string{"kgcoop": "coop", "prograd": "coop", "baple": "coop", "badclip": "cocoop", "promptsrc": "ivlp", "clip-lora": "lora", "cliplora": "lora"}

// The reasons for which learners are refused by name.
const (
	plotReason = "PLOT's logits come from optimal transport between several prompts of a class and the parts of an image, not from one vector " +
		"of each, and its iterations stop by the mean over a batch: it is not audited here"
	readLearners = "CoOp, KgCoOp, ProGrad, CoCoOp, BadCLIP, BAPLe, MaPLe, IVLP, PromptSRC, VPT, TCP and CLIP-LoRA"
)

// classify names the learner whose tensors the file holds.
func (d *delivery) classify(h Hints, classes int) (string, error) {
	has := func(name string) bool { _, ok := d.learner[name]; return ok }
	any := func(prefix string) bool {
		return slices.ContainsFunc(sortedKeys(d.learner), func(n string) bool { return strings.HasPrefix(n, prefix) })
	}
	asked := strings.ToLower(h.Learner)
	if other, ok := kinds[asked]; ok {
		asked = other
	}
	if strings.HasPrefix(asked, "plot") {
		return "", errors.New(plotReason)
	}
	if asked != "" {
		if _, err := FindLearner(asked); err != nil {
			return "", fmt.Errorf("--learner: %w", err)
		}
	}
	found := ""
	switch bare, ok := d.learner[""]; {
	case ok && asked == "coop":
		d.learner = map[string]clip.Stored{"ctx": bare}
		return "coop", nil
	case ok:
		return "", fmt.Errorf("holds one tensor %v that has no name: it could be CoOp's context, [tokens, width] or [classes, tokens, width], or an adapter's "+
			"weights, or features: if it is a context, say --learner coop", bare.Shape)
	case any("layer_"):
		found = "lora"
	case has("ctx_vision"):
		return "", errors.New("the tensor ctx_vision is PLOT++'s: " + plotReason)
	case any("image_encoder.") && !has("ctx"):
		found = "vpt-input"
	case any("image_encoder.") || any("text_encoder."):
		found = "ivlp"
	case !has("ctx") && has("trigger"):
		return "", fmt.Errorf("holds a trigger of BadCLIP; the prompts are in the folder %s beside it", promptFolder)
	case !has("ctx"):
		return "", fmt.Errorf("no tensor ctx: not the prompts of %s; the tensors are %s", readLearners, some(append(sortedKeys(d.learner), sortedKeys(d.encoders)...)))
	case any("proj."), any("compound_"):
		found = "maple"
	case has("bias_vectors"), has("meta_net.linear1.weight") && !has("meta_net.linear2.weight"):
		found = "coop" // KgCoOp, whose class name stands at the end always
		d.facts["class_token_position"] = "end"
		for _, name := range sortedKeys(d.learner) {
			if name == "bias_vectors" || strings.HasPrefix(name, "meta_net.") || strings.HasPrefix(name, "adapter.") || name == "text_features" {
				d.set(name, "KgCoOp makes it and never uses it")
			}
		}
	case any("meta_net."):
		found = "cocoop"
		ctx, last := d.learner["ctx"].Shape, d.learner["meta_net.linear2.weight"].Shape
		if len(ctx) == 2 && len(last) == 2 && last[0] != ctx[1] || asked == "tcp" {
			found = "tcp"
		}
	default:
		found = "coop"
		ctx := d.learner["ctx"].Shape
		around, kept := d.learner["token_prefix"]
		switch {
		case len(ctx) != 3:
		case kept && len(around.Shape) == 3 && ctx[0] > 1 && around.Shape[0] == ctx[0]*classes && around.Shape[0] != ctx[0]:
			return "", fmt.Errorf("%d contexts for each of the %d classes are PLOT's: %s", ctx[0], classes, plotReason)
		case !kept && ctx[0] != classes:
			return "", fmt.Errorf("%d contexts for %d classes: of CoOp there is one for each class; other numbers are PLOT's: %s", ctx[0], classes, plotReason)
		case !kept && ctx[0] <= plotMost && asked == "":
			return "", fmt.Errorf("%d contexts for %d classes: these could be CoOp's, one for each class, or %d of PLOT for each; say which: --learner coop "+
				"(or plot, which is not read)", ctx[0], classes, ctx[0])
		}
	}
	if asked != "" && asked != found {
		return "", fmt.Errorf("holds the tensors of a %s model, not those of %.40q", found, h.Learner)
	}
	for _, name := range sortedKeys(d.learner) {
		if strings.HasPrefix(name, "ZS_image_encoder.") || name == "fixed_embeddings" {
			d.set(name, "PromptSRC's teacher; only its tuning uses it")
		}
	}
	return found, nil
}

// plotMost is the largest number of prompts of a class that PLOT's authors try.
const plotMost = 8

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

// words finds the words of the prompts: those that the hint gives, or those that the embeddings around the context spell.
func (d *delivery) words(m *Model, n int, h Hints, given map[string]any) error {
	init := h.Init
	if m.Learner.Name == "tcp" {
		init = "" // says what the class-aware prompts are made of
	}
	if init == "" {
		spelt, found, err := d.spelt(m, n)
		if err != nil {
			return err
		}
		if found {
			init = spelt
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

// place puts the class name where the file or the hints say, and notes what is assumed where neither does.
func (d *delivery) place(m *Model, h Hints) error {
	at := Position(h.Position)
	if at == "end" {
		at = PositionEnd
	}
	if !slices.Contains(positions, at) {
		return fmt.Errorf("--class-position %.40q: it is end, middle or front", h.Position)
	}
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

// buffers are what a learner keeps besides parameters: the embeddings around its context and, of one that was pickled whole, the ids
// by which the end of a text is found.
var buffers = []string{"token_prefix", "token_suffix", "tokenized_prompts"}

// near tells whether a number is another one that was kept in half precision perhaps, or as bfloat16 of 8 bits.
func near(got, want float32) bool {
	d := got - want
	return max(d, -d) <= max(want, -want)/256+1e-6
}

// spelt returns the prompt that the embeddings behind the context spell, x standing for each of n context tokens, where it is none of
// the usual ones. Authors' loaders drop these embeddings and make them anew from the dataset's configuration, which made them.
func (d *delivery) spelt(m *Model, n int) (init string, found bool, err error) {
	t, ok := d.learner["token_suffix"]
	c, w := m.CLIP, m.CLIP.Config.Text.Width
	if !ok || n < 1 || len(t.Shape) != 3 || t.Shape[0] != len(m.Classes) || t.Shape[1] != c.Config.Text.ContextLength-1-n || t.Shape[2] != w {
		return "", false, nil // what is wrong with it is said later
	}
	data, err := finite("token_suffix", t)
	if err != nil {
		return "", false, err
	}
	last := len(m.Classes) - 1
	ids := c.FindTokens(slices.Concat(data[:t.Shape[1]*w], data[last*t.Shape[1]*w:]), near)
	text := func(ids []int) []int { return ids[:max(0, slices.Index(ids, c.Tokenizer.EOT()))] }
	first, final := text(ids[:t.Shape[1]]), text(ids[t.Shape[1]:])
	name, other := c.Tokenizer.Encode(m.Classes[0]), c.Tokenizer.Encode(m.Classes[last])
	for at := 0; at+len(name) <= len(first); at++ {
		before, after := first[:at], first[at+len(name):]
		if !slices.Equal(first[at:at+len(name)], name) || !slices.Equal(final, slices.Concat(before, other, after)) {
			continue
		}
		tail := strings.TrimSpace(c.Tokenizer.Decode(after))
		if !slices.Equal(c.Tokenizer.Encode(tail), after) {
			continue
		}
		if tail != "." {
			tail = " {} " + tail
		} else {
			tail = ""
		}
		if m.Learner.Name == "coop" || m.Learner.Name == "cocoop" {
			if len(before) > 0 || tail == "" {
				return "", false, nil
			}
		}
		usual := c.Tokenizer.Encode("a photo of a")
		switch {
		case slices.Equal(usual[min(n, len(usual)):], before) && m.Learner.Name != "coop" && m.Learner.Name != "cocoop":
			return "a photo of a" + tail, true, nil
		case len(before) == 0 && tail == "":
			return strings.TrimSpace(strings.Repeat("x ", n)), true, nil
		}
		words := strings.TrimSpace(c.Tokenizer.Decode(before))
		init := strings.TrimSpace(strings.Repeat("x ", n)+words) + tail
		d.note("the embeddings behind the context spell %q", strings.TrimSpace(words+" NAME"+strings.TrimPrefix(cmpOr(tail, "."), " {}")))
		return init, true, nil
	}
	return "", false, nil
}

func cmpOr(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

// checkBuffers holds the embeddings that a checkpoint keeps around its context against those of this CLIP and these classes:
// authors' loaders drop them, but they tell whether the names are the ones, in the order, that the model was tuned for.
func (d *delivery) checkBuffers(m *Model) error {
	if m.Params["ctx"] == nil {
		for _, name := range buffers {
			if _, there := d.learner[name]; there {
				return fmt.Errorf("the tensor %q is none of a %s model", name, m.Learner.Name)
			}
		}
		return nil
	}
	prefix, suffix, err := m.buffers()
	if err != nil {
		return err
	}
	for _, b := range []struct {
		name string
		want *tensor.Dense
	}{{"token_prefix", prefix}, {"token_suffix", suffix}} {
		t, there := d.learner[b.name]
		if !there {
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
		for i, v := range dense.Floats(b.want) {
			if near(got[i], v) {
				continue
			}
			if b.name == "token_prefix" {
				return fmt.Errorf("the tensor %q is not the start token of this CLIP: the prompts were tuned for another", b.name)
			}
			return fmt.Errorf("the tensor %q was made for another name than %.80q of class %d: the names must be those of the tuning, in "+
				"the order of the labels", b.name, m.Classes[i/per], i/per)
		}
	}
	return d.checkEnds(m)
}

// checkEnds holds the places of the ends of text in ids that were pickled with a module against those of the prompts.
func (d *delivery) checkEnds(m *Model) error {
	t, there := d.learner["tokenized_prompts"]
	if !there {
		return nil
	}
	l, err := m.newLayout(m.contextLength())
	if err != nil {
		return err
	}
	if want := []int{len(m.Classes), m.CLIP.Config.Text.ContextLength}; !slices.Equal(t.Shape, want) {
		return fmt.Errorf("the tensor tokenized_prompts has shape %v; %v was expected for this CLIP", t.Shape, want)
	}
	ids, err := finite("tokenized_prompts", t)
	if err != nil {
		return err
	}
	for k, row := range slices.Collect(slices.Chunk(ids, t.Shape[1])) {
		if at := slices.Index(row, slices.Max(row)); at != l.eot[k] {
			return fmt.Errorf("the tensor tokenized_prompts ends the text of class %d at position %d; it ends at %d", k, at, l.eot[k])
		}
	}
	return nil
}

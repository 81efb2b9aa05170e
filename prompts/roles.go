package prompts

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"clipinspector/clip"
	"clipinspector/internal/safetensors"
	"clipinspector/internal/torchfile"
)

// tower matches the encoders of a CustomCLIP, as its authors name them, and of a learner that kept
// a CLIP whole; prompt matches the prompts that IVLP and its kin keep within them.
var (
	tower  = regexp.MustCompile(`^(image_encoder\.|text_encoder\.|clip_model\.|clip\.|logit_scale$)`)
	prompt = regexp.MustCompile(`^(image_encoder|text_encoder)\.((transformer\.resblocks\.\d+\.)?VPT_shallow|VPT)$`)
)

const learnerPrefix = "prompt_learner."

// sort takes off what wraps the names (DataParallel's "module.", torch.compile's "_orig_mod.", a
// prefix that all have) and parts the prompts from the encoders beside them.
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

// CompareEncoders holds the frozen encoders that a checkpoint has beside its prompts, as the
// trainers of MaPLe, IVLP, PromptSRC and VPT save them, against the weights of the CLIP that is
// given; of the other trainers' checkpoints, and this project's, nothing is compared. The authors'
// code takes the encoders from the file: where they differ, it computes something else than what is
// audited. Tensors that no CLIP of this architecture has are an error. path is what
// [ReadCheckpoint] takes.
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

// isOwn tells whether a file is one that [Model.Write] stored: safetensors whose metadata describe
// a model.
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
var kinds = map[string]string{"kgcoop": "coop", "prograd": "coop", "baple": "coop", "badclip": "cocoop", "promptsrc": "ivlp", "clip-lora": "lora", "cliplora": "lora",
	"plot++": "plotpp"}

// readLearners are those whose checkpoints are read.
const readLearners = "CoOp, KgCoOp, ProGrad, CoCoOp, BadCLIP, BAPLe, MaPLe, IVLP, PromptSRC, VPT, TCP, CLIP-LoRA, PLOT and PLOT++"

// classify names the learner whose tensors the file holds.
func (d *delivery) classify(h Hints, classes int) (string, error) {
	has := func(name string) bool { _, ok := d.learner[name]; return ok }
	any := func(prefix string) bool {
		return slices.ContainsFunc(sortedKeys(d.learner), func(n string) bool { return strings.HasPrefix(n, prefix) })
	}
	asked := h.learner()
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
	case has(visualContextsName):
		found = "plotpp"
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
		case kept && len(around.Shape) == 3:
			if around.Shape[0] == ctx[0]*classes && around.Shape[0] != ctx[0] {
				found = "plot"
			}
		case asked == "plot":
			found = "plot"
		case ctx[0] != classes && asked == "":
			return "", fmt.Errorf("%d contexts for %d classes: of CoOp there is one for each class; PLOT has as many for each class: say --learner plot, or give "+
				"the classes that it was tuned for", ctx[0], classes)
		case ctx[0] <= plotMost && asked == "":
			return "", fmt.Errorf("%d contexts for %d classes: these could be CoOp's, one for each class, or %d of PLOT for each; say which: --learner coop "+
				"or --learner plot", ctx[0], classes, ctx[0])
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

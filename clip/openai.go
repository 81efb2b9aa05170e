package clip

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"clipinspector/internal/dense"
	"clipinspector/internal/files"
)

// openAIConfig finds the architecture as OpenAI's build_model does (clip/model.py), from names and
// shapes: heads are 64 wide, or there is one. The activation is QuickGELU in OpenAI's archives; of
// other files open_clip_config.json says it.
func (s *stored) openAIConfig(dir string) (Config, error) {
	c := ViTB32()
	t, v := &c.Text, &c.Vision
	var err error
	dims := func(name string, axes int, dst ...*int) { // the first dimensions of a tensor
		var shape []int
		if err == nil {
			shape, err = s.shape(name, axes)
		}
		if err == nil {
			for i, d := range dst {
				*d = shape[i]
			}
		}
	}
	var skip, positions int
	resNet, table := s.has(resNetAnchor), "visual.positional_embedding"
	if resNet {
		*v = VisionConfig{PatchSize: resNetStride}
		for i := range v.Stages {
			v.Stages[i] = s.blocks(fmt.Sprintf("visual.layer%d.", i+1))
		}
		dims(resNetAnchor, 4, &v.Width)
		table = "visual.attnpool.positional_embedding"
	} else {
		dims("visual.conv1.weight", 4, &v.Width, &skip, &skip, &v.PatchSize)
		dims("visual.transformer.resblocks.0.mlp.c_fc.weight", 2, &v.MLP)
	}
	dims(table, 2, &positions)
	dims("token_embedding.weight", 2, &t.VocabSize, &t.Width)
	dims("positional_embedding", 2, &t.ContextLength)
	dims("transformer.resblocks.0.mlp.c_fc.weight", 2, &t.MLP)
	dims("text_projection", 2, &skip, &c.ProjectionDim)
	if err != nil {
		return c, err
	}
	side := int(math.Round(math.Sqrt(float64(positions - 1))))
	if side < 1 || side*side != positions-1 || v.PatchSize < 1 || side > 4096/v.PatchSize {
		return c, fmt.Errorf("tensor %s: %d positions for patches of %d pixels", table, positions, v.PatchSize)
	}
	v.ImageSize = side * v.PatchSize
	t.Layers, t.Heads = s.blocks("transformer.resblocks."), max(1, t.Width/64)
	if resNet {
		v.PatchSize, v.Heads = 0, max(1, resNetStride*v.Width/64)
	} else {
		v.Layers, v.Heads = s.blocks("visual.transformer.resblocks."), max(1, v.Width/64)
	}
	t.EOS = max(0, t.VocabSize-1)
	if err := s.openCLIPConfig(filepath.Join(dir, openCLIPFile), &c); err != nil {
		return c, err
	}
	return c, c.validate()
}

// blocks counts the blocks of a tower: one more than the largest number there is.
func (s *stored) blocks(prefix string) int {
	n := 0
	for name := range s.shapes {
		if rest, ok := strings.CutPrefix(name, prefix); ok {
			number, _, _ := strings.Cut(rest, ".")
			if i, err := strconv.Atoi(number); err == nil && i >= n && i < 1<<20 {
				n = i + 1
			}
		}
	}
	return n
}

// openCLIPConfig reads what the tensors do not tell, and holds what both tell against them.
func (s *stored) openCLIPConfig(path string, c *Config) error {
	raw, err := files.Read(path, maxConfigBytes)
	if errors.Is(err, fs.ErrNotExist) {
		if s.script {
			return nil // OpenAI's: ViTB32's activation
		}
		return fmt.Errorf("a state dict does not say which activation it was trained with: put a file %s beside it that holds "+
			`{"model_cfg": {"quick_gelu": true}} for OpenAI's weights, false for most of open_clip's`, openCLIPFile)
	}
	if err == nil {
		err = readOpenCLIPModel(raw, c)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

func readOpenCLIPModel(raw []byte, c *Config) error {
	top, err := openCLIP.check("", raw)
	if err != nil {
		return err
	}
	if !given(top["model_cfg"]) {
		return errors.New("model_cfg is missing")
	}
	model, err := openCLIPModel.check("model_cfg", top["model_cfg"])
	if err != nil {
		return err
	}
	vision, err := openCLIPVision.check("vision_cfg", model["vision_cfg"])
	if err != nil {
		return err
	}
	text, err := openCLIPText.check("text_cfg", model["text_cfg"])
	if err != nil {
		return err
	}
	quick := false
	if value := model["quick_gelu"]; given(value) {
		if err := json.Unmarshal(value, &quick); err != nil {
			return fmt.Errorf("quick_gelu: %w", err)
		}
	}
	if !quick {
		c.Text.Activation, c.Vision.Activation = "gelu", "gelu"
	}
	if value := vision["head_width"]; given(value) {
		var width int
		across := c.Vision.Width
		if c.Vision.ResNet() {
			across *= resNetStride
		}
		if err := json.Unmarshal(value, &width); err != nil || width < 1 || across%width != 0 {
			return fmt.Errorf("vision_cfg.head_width is %s; the tower is %d wide", short(value), across)
		}
		c.Vision.Heads = across / width
	}
	if value := text["heads"]; given(value) {
		if err := json.Unmarshal(value, &c.Text.Heads); err != nil || c.Text.Heads < 1 {
			return fmt.Errorf("text_cfg.heads is %s", short(value))
		}
	} else if given(text["width"]) && c.Text.Heads != openCLIPHeads {
		return fmt.Errorf("text_cfg.heads is missing: open_clip would take %d, OpenAI %d; say which", openCLIPHeads, c.Text.Heads)
	}
	size, layers, patch := c.Vision.ImageSize, fmt.Sprint(c.Vision.Layers), fmt.Sprint(c.Vision.PatchSize)
	if stages := c.Vision.Stages; c.Vision.ResNet() {
		layers, patch = fmt.Sprintf("[%d,%d,%d,%d]", stages[0], stages[1], stages[2], stages[3]), "null"
	}
	for _, x := range []struct {
		name string
		raw  json.RawMessage
		want string
	}{
		{"embed_dim", model["embed_dim"], fmt.Sprint(c.ProjectionDim)},
		{"vision_cfg.width", vision["width"], fmt.Sprint(c.Vision.Width)},
		{"vision_cfg.layers", vision["layers"], layers},
		{"vision_cfg.patch_size", vision["patch_size"], patch},
		{"vision_cfg.image_size", vision["image_size"], fmt.Sprintf("%d | [%d,%d]", size, size, size)},
		{"text_cfg.width", text["width"], fmt.Sprint(c.Text.Width)},
		{"text_cfg.layers", text["layers"], fmt.Sprint(c.Text.Layers)},
		{"text_cfg.context_length", text["context_length"], fmt.Sprint(c.Text.ContextLength)},
		{"text_cfg.vocab_size", text["vocab_size"], fmt.Sprint(c.Text.VocabSize)},
	} {
		if given(x.raw) && !anyOf(x.raw, x.want) {
			return fmt.Errorf("%s is %s; the tensors are those of %s", x.name, short(x.raw), strings.ReplaceAll(x.want, " | ", " or "))
		}
	}
	return nil
}

// openCLIPHeads is open_clip's default for the heads of a text tower.
const openCLIPHeads = 8

// openAIName returns where OpenAI's state dicts have a parameter of Hugging Face's name, which
// third of the rows of that tensor it is (0 of 1 where it is all), and whether it is transposed
// there (transformers, convert_clip_original_pytorch_to_hf.py).
func openAIName(name string) (openAI string, part, parts int, transposed bool) {
	switch name {
	case "logit_scale":
		return name, 0, 1, false
	case "text_projection.weight":
		return "text_projection", 0, 1, true
	case "visual_projection.weight":
		return "visual.proj", 0, 1, true
	case "text_model.embeddings.token_embedding.weight":
		return "token_embedding.weight", 0, 1, false
	case "text_model.embeddings.position_embedding.weight":
		return "positional_embedding", 0, 1, false
	case "vision_model.embeddings.class_embedding":
		return "visual.class_embedding", 0, 1, false
	case "vision_model.embeddings.patch_embedding.weight":
		return "visual.conv1.weight", 0, 1, false
	case "vision_model.embeddings.position_embedding.weight":
		return "visual.positional_embedding", 0, 1, false
	}
	for i, p := range []string{".self_attn.q_proj.", ".self_attn.k_proj.", ".self_attn.v_proj."} {
		if strings.Contains(name, p) {
			name, part, parts = strings.Replace(name, p, ".attn.in_proj_", 1), i, 3
		}
	}
	if m := ofResNet.FindStringSubmatch(name); m != nil {
		return "visual." + m[1], 0, 1, false
	}
	return openAINames.Replace(name), part, max(1, parts), false
}

// ofResNet matches the names of a ResNet's tensors, and resNetAnchor is one that no vision
// transformer has.
var ofResNet = regexp.MustCompile(`^vision_model\.((conv|bn|layer)\d\..*|attnpool\..*)$`)

const resNetAnchor = "visual.layer1.0.conv1.weight"

var openAINames = strings.NewReplacer("text_model.encoder.layers.", "transformer.resblocks.", "text_model.final_layer_norm.", "ln_final.",
	"vision_model.encoder.layers.", "visual.transformer.resblocks.", "vision_model.pre_layrnorm.", "visual.ln_pre.",
	"vision_model.post_layernorm.", "visual.ln_post.", ".self_attn.", ".attn.", ".layer_norm", ".ln_", ".fc1.", ".c_fc.", ".fc2.", ".c_proj.")

// openAIWeights reads tensors under OpenAI's names. Shapes are checked first.
func (s *stored) openAIWeights(c Config) (Weights, error) {
	w := Weights{}
	read := map[string][]float32{} // whole tensors, under OpenAI's names
	shapes := c.Shapes()
	for _, name := range slices.Sorted(maps.Keys(shapes)) {
		from, part, parts, transposed := openAIName(name)
		shape := shapes[name]
		want := openAIShape(shape, parts, transposed)
		got, there := s.shapes[from]
		if !there {
			return nil, fmt.Errorf("tensor %s is missing", from)
		}
		if !fits(got, want) {
			return nil, shapeError(from, got, want)
		}
		if read[from] == nil {
			var err error
			if read[from], err = s.read(from); err != nil {
				return nil, fmt.Errorf("tensor %s: %w", from, err)
			}
		}
		data := read[from]
		n := len(data) / parts
		data = data[part*n : (part+1)*n : (part+1)*n]
		if transposed {
			data = transpose(data, want[0], want[1])
		}
		w[name] = dense.New(data, shape...)
	}
	for _, name := range slices.Sorted(maps.Keys(s.shapes)) {
		if read[name] == nil {
			return nil, unknownTensor(name)
		}
	}
	return w, nil
}

// openAIShape is the shape of OpenAI's tensor that holds so many weights of a shape; see
// openAIName.
func openAIShape(shape []int, parts int, transposed bool) []int {
	s := slices.Clone(shape)
	if parts > 1 {
		s[0] *= parts
	}
	if transposed {
		s[0], s[1] = s[1], s[0]
	}
	return s
}

// fits tells whether a tensor has the shape that is wanted; a scalar may also be a vector of one.
func fits(got, want []int) bool {
	return slices.Equal(got, want) || len(want) == 0 && slices.Equal(got, []int{1})
}

// transpose returns the transpose of a matrix of so many rows and columns.
func transpose(x []float32, rows, columns int) []float32 {
	out := make([]float32, len(x))
	for i := range rows {
		for j := range columns {
			out[j*rows+i] = x[i*columns+j]
		}
	}
	return out
}

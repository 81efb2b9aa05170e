package clip

func tiny() Config {
	c := ViTB32()
	c.Text.VocabSize, c.Text.ContextLength, c.Text.Width, c.Text.MLP, c.Text.Layers, c.Text.Heads = 40, 10, 16, 48, 3, 2
	c.Vision.ImageSize, c.Vision.PatchSize, c.Vision.Width, c.Vision.MLP, c.Vision.Layers, c.Vision.Heads = 8, 4, 24, 40, 2, 3
	c.Vision.Activation = "gelu"
	c.ProjectionDim = 12
	return c
}

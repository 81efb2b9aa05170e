// Command clip-inspector finds backdoors in prompt-tuned CLIP models. It runs the suites of
// configs/, prints their tables, and makes models and encoders. Try `clip-inspector --help`.
package main

import "clipinspector/cmd"

func main() { cmd.Execute() }

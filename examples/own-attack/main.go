// Command own-attack is clip-inspector with one attack more, in a module of its own: nothing of the
// project is changed for it. See docs/extending.md.
package main

import "clipinspector/cmd"

func main() { cmd.Execute() }

package cmd

import (
	"fmt"
	"strconv"

	"github.com/spf13/pflag"
)

// count is a flag's whole number, which has a least value.
type count struct {
	to    *int
	least int
}

// counted adds a flag whose values are whole numbers from least on.
func counted(f *pflag.FlagSet, to *int, name string, least, value int, usage string) {
	*to = value
	f.Var(count{to, least}, name, usage)
}

// Set implements [pflag.Value].
func (c count) Set(text string) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < c.least {
		return fmt.Errorf("want a whole number of at least %d", c.least)
	}
	*c.to = n
	return nil
}

// String implements [pflag.Value].
func (c count) String() string {
	if c.to == nil {
		return ""
	}
	return strconv.Itoa(*c.to)
}

// Type implements [pflag.Value].
func (c count) Type() string { return "int" }

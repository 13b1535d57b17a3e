package topo

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// Load reads a lab file. params replace "${name}" in its strings; those of its
// sweep that are not given have their first value. An error is an [Errors] if
// the file's content is to blame.
func Load(path string, params map[string]string) (*Lab, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("lab file: %w", err)
	}
	return Parse(path, text, params)
}

// Parse reads the text of a lab file; name stands for it in errors, and is where
// files that it names are looked for.
func Parse(name string, text []byte, params map[string]string) (*Lab, error) {
	return parse(name, text, params)
}

// Errors are all errors found in a lab file, in its order.
type Errors []*Error

// Error is one, with its place.
type Error struct {
	Pos Pos
	Msg string
}

// Error is as compilers say it.
func (e *Error) Error() string { return e.Pos.String() + ": " + e.Msg }

// Error has a line for each.
func (e Errors) Error() string {
	var l []string
	for _, x := range e {
		l = append(l, x.Error())
	}
	return strings.Join(l, "\n")
}

// baseName is the default name of a lab.
func baseName(file string) string {
	b := filepath.Base(file)
	return strings.TrimSuffix(b, filepath.Ext(b))
}

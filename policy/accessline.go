package policy

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// placed says of a decoder's errors where they stand, one a line.
func placed(text []byte, err error) error {
	var strict *toml.StrictMissingError
	if errors.As(err, &strict) {
		var all []error
		for i := range strict.Errors {
			e := &strict.Errors[i]
			row, col := e.Position()
			all = append(all, fmt.Errorf("line %d, column %d: unknown key %q", row, col, strings.Join(e.Key(), ".")))
		}
		return errors.Join(all...)
	}
	var de *toml.DecodeError
	if errors.As(err, &de) {
		row, col := de.Position()
		return fmt.Errorf("line %d, column %d: %s", row, col, strings.TrimPrefix(de.Error(), "toml: "))
	}
	var ne numberError
	if errors.As(err, &ne) {
		if row, col := numberAt(text, ne.text); row > 0 {
			return fmt.Errorf("line %d, column %d: %w", row, col, err)
		}
	}
	return err
}

// numberError is a number out of bounds. Unlike errors about strings the
// decoder does not say where it stands.
type numberError struct{ text, msg string }

func (e numberError) Error() string { return e.msg }

// numberAt finds the first integer written as s that is out of bounds where it
// stands, as decoding in order would.
func numberAt(text []byte, s string) (row, col int) {
	var p unstable.Parser
	p.Reset(text)
	var walk func(n *unstable.Node, key string)
	walk = func(n *unstable.Node, key string) {
		switch n.Kind {
		case unstable.KeyValue:
			for k := n.Key(); k.Next(); {
				key = string(k.Node().Data)
			}
			walk(n.Value(), key)
		case unstable.Array, unstable.InlineTable:
			for c := n.Children(); c.Next(); {
				walk(c.Node(), key)
			}
		case unstable.Integer:
			bad := (&limit{}).UnmarshalText(n.Data)
			if key == "ports" {
				bad = (&portRange{}).UnmarshalText(n.Data)
			}
			if row == 0 && bad != nil && string(n.Data) == s {
				at := p.Shape(n.Raw).Start
				row, col = at.Line, at.Column
			}
		}
	}
	for p.NextExpression() && row == 0 {
		walk(p.Expression(), "")
	}
	return row, col
}

// tableLines returns the lines on which the tables of the array called name
// begin.
func tableLines(text []byte, name string) []int {
	var lines []int
	var p unstable.Parser
	p.Reset(text)
	for p.NextExpression() {
		e := p.Expression()
		if e.Kind != unstable.ArrayTable {
			continue
		}
		k := e.Key()
		if !k.Next() || string(k.Node().Data) != name {
			continue
		}
		at := p.Shape(k.Node().Raw).Start.Line
		if k.IsLast() {
			lines = append(lines, at)
		}
	}
	return lines
}

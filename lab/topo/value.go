package topo

import (
	"errors"
	"fmt"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// value is a TOML value with its place.
type value struct {
	pos   Pos
	kind  unstable.Kind // String, Bool, Float, Integer, Array, InlineTable (any table) or a date
	text  string        // of a scalar, as its meaning is (a string without quotes)
	list  []*value
	table []*field
}

// field is a key of a table.
type field struct {
	name string
	pos  Pos
	val  *value
}

func (v *value) field(name string) *field {
	for _, f := range v.table {
		if f.name == name {
			return f
		}
	}
	return nil
}

// set replaces a field of a table, or adds it.
func (v *value) set(name string, to *value) {
	if f := v.field(name); f != nil {
		f.val = to
		return
	}
	v.table = append(v.table, &field{name: name, pos: to.pos, val: to})
}

// tree reads TOML and keeps the places.
func tree(file string, text []byte) (*value, error) {
	// The decoder refuses what the parser below lets pass, such as a key given
	// twice.
	var all map[string]any
	if err := toml.Unmarshal(text, &all); err != nil {
		pos := Pos{File: file}
		var d *toml.DecodeError
		if errors.As(err, &d) {
			pos.Line, pos.Col = d.Position()
		}
		return nil, Errors{{pos, strings.TrimPrefix(err.Error(), "toml: ")}}
	}
	b := &builder{file: file, text: text}
	b.p.Reset(text)
	root := b.newTable(Pos{File: file, Line: 1, Col: 1})
	at := root
	for b.p.NextExpression() {
		e := b.p.Expression()
		switch e.Kind {
		case unstable.Table:
			at = b.descend(root, e.Key(), false)
		case unstable.ArrayTable:
			at = b.descend(root, e.Key(), true)
		case unstable.KeyValue:
			b.keyValue(at, e)
		}
	}
	if err := b.p.Error(); err != nil {
		return nil, Errors{{Pos{File: file}, err.Error()}}
	}
	return root, nil
}

// builder makes a tree of the parser's expressions.
type builder struct {
	file string
	text []byte
	p    unstable.Parser
}

func (b *builder) newTable(pos Pos) *value { return &value{pos: pos, kind: unstable.InlineTable} }

// pos is the place of a node; it must have one.
func (b *builder) pos(n *unstable.Node) Pos {
	head := b.text[:n.Raw.Offset]
	line := strings.Count(string(head), "\n")
	return Pos{File: b.file, Line: line + 1, Col: len(head) - strings.LastIndexByte(string(head), '\n')}
}

// descend gives the table of a dotted key, a new one at the end of a list.
func (b *builder) descend(t *value, key unstable.Iterator, list bool) *value {
	for key.Next() {
		n := key.Node()
		name, pos, last := string(n.Data), b.pos(n), key.IsLast()
		f := t.field(name)
		if f == nil {
			f = &field{name: name, pos: pos, val: b.newTable(pos)}
			if list && last {
				f.val.kind = unstable.Array
			}
			t.table = append(t.table, f)
		}
		t = f.val
		if t.kind == unstable.Array {
			if list && last {
				t.list = append(t.list, b.newTable(pos))
			}
			t = t.list[len(t.list)-1]
		}
	}
	return t
}

// keyValue puts a key with its value into a table.
func (b *builder) keyValue(t *value, e *unstable.Node) {
	key := e.Key()
	for key.Next() {
		n := key.Node()
		name, pos := string(n.Data), b.pos(n)
		if key.IsLast() {
			t.table = append(t.table, &field{name: name, pos: pos, val: b.value(e.Value(), pos)})
			return
		}
		f := t.field(name)
		if f == nil {
			f = &field{name: name, pos: pos, val: b.newTable(pos)}
			t.table = append(t.table, f)
		}
		t = f.val
	}
}

// value converts a node; parent is the place of one that has none.
func (b *builder) value(n *unstable.Node, parent Pos) *value {
	v := &value{pos: parent, kind: n.Kind}
	switch n.Kind {
	case unstable.Array:
		for it := n.Children(); it.Next(); {
			v.list = append(v.list, b.value(it.Node(), parent))
		}
	case unstable.InlineTable:
		v.pos = b.pos(n)
		for it := n.Children(); it.Next(); {
			b.keyValue(v, it.Node())
		}
	default:
		if n.Raw.Length > 0 {
			v.pos = b.pos(n)
		}
		v.text = string(n.Data)
	}
	return v
}

// substitute replaces "${name}" in all strings. A name that is no parameter is
// an error.
func (v *value) substitute(param lookup, fail func(Pos, string)) {
	switch v.kind {
	case unstable.Array:
		for _, e := range v.list {
			e.substitute(param, fail)
		}
	case unstable.InlineTable:
		for _, f := range v.table {
			f.val.substitute(param, fail)
		}
	case unstable.String:
		v.text = expand(v.text, param, func(msg string) { fail(v.pos, msg) })
	}
}

// lookup is the value of a parameter, if there is one of this name.
type lookup func(name string) (string, bool)

func expand(s string, param lookup, fail func(string)) string {
	var out strings.Builder
	for {
		head, rest, ok := strings.Cut(s, "${")
		out.WriteString(head)
		if !ok {
			return out.String()
		}
		name, tail, ok := strings.Cut(rest, "}")
		val, known := param(name)
		switch {
		case !ok:
			fail(`"${" without "}"`)
			return out.String()
		case !known:
			fail(fmt.Sprintf("${%s}: there is no such parameter in [sweep]", name))
		}
		out.WriteString(val)
		s = tail
	}
}

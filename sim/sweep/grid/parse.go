package grid

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// Pos is a place in a lab file; lines and columns (in bytes) are from 1.
type Pos struct {
	File      string
	Line, Col int
}

// String is as compilers say it: file:line:column.
func (p Pos) String() string { return fmt.Sprintf("%s:%d:%d", p.File, p.Line, p.Col) }

// Error is what is wrong in a lab file, with its place.
type Error struct {
	Pos Pos
	Msg string
}

// Error is as compilers say it.
func (e *Error) Error() string {
	if e.Pos.Line == 0 {
		return e.Msg
	}
	return e.Pos.String() + ": " + e.Msg
}

// Errors are all errors found, in the order of the file.
type Errors []*Error

// Error has a line for each.
func (e Errors) Error() string {
	var l []string
	for _, x := range e {
		l = append(l, x.Error())
	}
	return strings.Join(l, "\n")
}

func (p Pos) errorf(format string, args ...any) Errors {
	return Errors{{Pos: p, Msg: fmt.Sprintf(format, args...)}}
}

// Parse reads the [sweep] table in the text of a lab file. name stands for the file in
// errors, which are [Errors]. Without such a table the grid has one row.
func Parse(name string, text []byte) (*Grid, error) {
	var file struct {
		Sweep any `toml:"sweep"`
	}
	if err := toml.Unmarshal(text, &file); err != nil {
		var de *toml.DecodeError
		if errors.As(err, &de) {
			line, col := de.Position()
			return nil, Pos{name, line, col}.errorf("%s", strings.TrimPrefix(de.Error(), "toml: "))
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if file.Sweep == nil {
		return &Grid{}, nil
	}
	keys := places(name, text)
	table, ok := file.Sweep.(map[string]any)
	if !ok {
		return nil, Pos{File: name, Line: 1, Col: 1}.errorf("sweep: want a table")
	}
	g := &Grid{}
	var errs Errors
	for _, k := range keys.params {
		var a Axis
		var err error
		if k.name == "points" {
			a, err = points(table[k.name], keys.inPoints)
		} else {
			a, err = axis(k.name, table[k.name])
		}
		if err != nil {
			errs = append(errs, k.pos.errorf("sweep: %v", err)...)
			continue
		}
		a.Pos = k.pos
		g.Axes = append(g.Axes, a)
	}
	if len(errs) > 0 {
		return nil, errs
	}
	if err := g.check(); err != nil {
		return nil, err
	}
	return g, nil
}

// key is a parameter's place.
type key struct {
	name string
	pos  Pos
}

// order is what decoding into maps loses: the order of the keys.
type order struct {
	params   []key    // of [sweep]
	inPoints []string // of its points, in the order of their first appearance
}

// places walks through a text that is known to be TOML.
func places(name string, text []byte) order {
	var o order
	var p unstable.Parser
	p.Reset(text)
	var table []string
	for p.NextExpression() {
		e := p.Expression()
		var path []string
		var at *unstable.Node
		it := e.Key()
		for it.Next() {
			path = append(path, string(it.Node().Data))
			at = it.Node()
		}
		if e.Kind == unstable.KeyValue {
			path = append(slices.Clone(table), path...)
		} else {
			table = path
		}
		if len(path) < 2 || path[0] != "sweep" {
			continue
		}
		if !slices.ContainsFunc(o.params, func(k key) bool { return k.name == path[1] }) {
			s := p.Shape(at.Raw).Start
			o.params = append(o.params, key{path[1], Pos{name, s.Line, s.Column}})
		}
		if path[1] != "points" {
			continue
		}
		if len(path) > 2 {
			o.point(path[2])
		} else if e.Kind == unstable.KeyValue {
			o.pointsOf(e.Value())
		}
	}
	return o
}

// point notes a parameter of the points.
func (o *order) point(name string) {
	if !slices.Contains(o.inPoints, name) {
		o.inPoints = append(o.inPoints, name)
	}
}

// pointsOf notes the parameters of an array of inline tables.
func (o *order) pointsOf(array *unstable.Node) {
	for tables := array.Children(); tables.Next(); {
		if tables.Node().Kind != unstable.InlineTable {
			continue
		}
		for kv := tables.Node().Children(); kv.Next(); {
			for k := kv.Node().Key(); k.Next(); {
				o.point(string(k.Node().Data))
				break
			}
		}
	}
}

// axis is one parameter's values.
func axis(name string, v any) (Axis, error) {
	if err := checkName(name); err != nil {
		return Axis{}, err
	}
	a := Axis{Names: []string{name}}
	var values []string
	var err error
	switch v := v.(type) {
	case []any:
		for _, x := range v {
			s, err := scalar(x)
			if err != nil {
				return a, fmt.Errorf("%s: %w", name, err)
			}
			values = append(values, s)
		}
	case map[string]any:
		values, err = series(v)
	default:
		var s string
		s, err = scalar(v)
		values = []string{s}
	}
	if err != nil {
		return a, fmt.Errorf("%s: %w", name, err)
	}
	if len(values) == 0 {
		return a, fmt.Errorf("%s has no values", name)
	}
	for _, s := range values {
		a.Points = append(a.Points, []string{s})
	}
	return a, nil
}

// points is an axis of several parameters.
func points(v any, names []string) (Axis, error) {
	a := Axis{Names: names}
	list, ok := v.([]any)
	if !ok || len(list) == 0 {
		return a, fmt.Errorf("points: want a list of tables, as [{delay = \"1ms\", loss = \"1%%\"}]")
	}
	for _, n := range names {
		if err := checkName(n); err != nil {
			return a, err
		}
	}
	for i, x := range list {
		t, ok := x.(map[string]any)
		if !ok || len(t) == 0 {
			return a, fmt.Errorf("point %d: want a table of parameters", i+1)
		}
		point := make([]string, len(names))
		for j, n := range names {
			value, ok := t[n]
			if !ok {
				return a, fmt.Errorf("point %d does not set %s", i+1, n)
			}
			var err error
			if point[j], err = scalar(value); err != nil {
				return a, fmt.Errorf("point %d: %s: %w", i+1, n, err)
			}
		}
		a.Points = append(a.Points, point)
	}
	return a, nil
}

// scalar is the text of a text, a number or a truth value.
func scalar(v any) (string, error) {
	switch v := v.(type) {
	case string:
		return v, nil
	case int64:
		return strconv.FormatInt(v, 10), nil
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64), nil
	case bool:
		return strconv.FormatBool(v), nil
	}
	return "", fmt.Errorf("want texts or numbers, a list of them, or a series as {from = 1, to = 10, step = 1}")
}

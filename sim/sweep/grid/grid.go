// Package grid is the parameters of a sweep: the [sweep] table of a lab file.
//
//	[sweep]
//	rate  = ["10mbit", "100mbit"]                    # a list
//	loss  = {from = 0, to = 2, step = 0.5}           # an arithmetic series
//	queue = {from = 10, to = 1000, n = 5, log = true} # n values, here of equal ratios
//	seed  = {from = 1, to = 10}                      # the step is 1
//	points = [{delay = "1ms", cc = "reno"}, {delay = "80ms", cc = "cubic"}]
//
// The grid is the product of its parameters in the order of the file, the last one
// varying fastest; points is one factor of it that sets several parameters at once.
package grid

import (
	"fmt"
	"strings"
)

// MaxRows is how many rows a grid may have.
const MaxRows = 10_000_000

// Param is a parameter with a value, both as text.
type Param struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// String is "name=value".
func (p Param) String() string { return p.Name + "=" + p.Value }

// Axis is one factor of a grid: parameters that vary together, and for each of its
// points their values.
type Axis struct {
	Names  []string   `json:"names"`
	Points [][]string `json:"points"`
	Pos    Pos        `json:"-"` // of the definition
}

// Grid is a product of axes.
type Grid struct {
	Axes []Axis `json:"axes"`
}

// Names are the parameters, in order.
func (g *Grid) Names() []string {
	var names []string
	for _, a := range g.Axes {
		names = append(names, a.Names...)
	}
	return names
}

// Len is the number of rows. A grid without axes has one.
func (g *Grid) Len() int {
	n := 1
	for _, a := range g.Axes {
		n *= len(a.Points)
	}
	return n
}

// Row is the parameters of row i, from 0 to Len()-1.
func (g *Grid) Row(i int) []Param {
	at := make([]int, len(g.Axes))
	for k := len(g.Axes) - 1; k >= 0; k-- {
		n := len(g.Axes[k].Points)
		at[k], i = i%n, i/n
	}
	row := []Param{}
	for k, a := range g.Axes {
		for j, name := range a.Names {
			row = append(row, Param{Name: name, Value: a.Points[at[k]][j]})
		}
	}
	return row
}

// Pos is where the parameter is defined, or the file if the grid does not have it from there.
func (g *Grid) Pos(name, file string) Pos {
	if i := find(g.Axes, name); i >= 0 && g.Axes[i].Pos.Line > 0 {
		return g.Axes[i].Pos
	}
	return Pos{File: file}
}

// Map is a row as a map from names to values.
func Map(row []Param) map[string]string {
	m := make(map[string]string, len(row))
	for _, p := range row {
		m[p.Name] = p.Value
	}
	return m
}

// Set replaces or adds parameters, each given as "name=value"; a name given several
// times has several values. Parameters that the grid lacks follow the others.
func (g *Grid) Set(args []string) error {
	var added []Axis
	for _, arg := range args {
		name, value, ok := strings.Cut(arg, "=")
		if !ok {
			return fmt.Errorf("%q: want name=value", arg)
		}
		if err := checkName(name); err != nil {
			return fmt.Errorf("%q: %w", arg, err)
		}
		if i := find(added, name); i >= 0 {
			added[i].Points = append(added[i].Points, []string{value})
			continue
		}
		added = append(added, Axis{Names: []string{name}, Points: [][]string{{value}}})
	}
	for _, a := range added {
		i := find(g.Axes, a.Names[0])
		switch {
		case i < 0:
			g.Axes = append(g.Axes, a)
		case len(g.Axes[i].Names) > 1:
			return fmt.Errorf("%s is one of several parameters that the sweep's points set together (%s)",
				a.Names[0], strings.Join(g.Axes[i].Names, ", "))
		default:
			g.Axes[i] = a
		}
	}
	return g.check()
}

// find is the axis that has the parameter, or -1.
func find(axes []Axis, name string) int {
	for i, a := range axes {
		for _, n := range a.Names {
			if n == name {
				return i
			}
		}
	}
	return -1
}

// check refuses parameters and values that are there twice, and too many rows.
func (g *Grid) check() error {
	seen := map[string]bool{}
	rows := 1
	for _, a := range g.Axes {
		for _, n := range a.Names {
			if seen[n] {
				return a.Pos.errorf("%s is set twice", n)
			}
			seen[n] = true
		}
		points := map[string]bool{}
		for _, p := range a.Points {
			key := strings.Join(p, "\x00")
			if points[key] {
				return a.Pos.errorf("%s has the value %s twice",
					strings.Join(a.Names, ", "), strings.Join(p, ", "))
			}
			points[key] = true
		}
		if rows *= len(a.Points); rows > MaxRows {
			return a.Pos.errorf("the sweep has more than %d rows", MaxRows)
		}
	}
	return nil
}

// reserved are names of columns that every table has.
var reserved = map[string]bool{"row": true, "error": true, "hash": true, "points": true}

// checkName refuses what is not a letter followed by letters, digits, "_" and "-", and
// the names of the table's own columns.
func checkName(s string) error {
	for i, r := range s {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r == '_'
		if !letter && (i == 0 || r != '-' && (r < '0' || r > '9')) {
			return fmt.Errorf("parameter %q: want a letter, then letters, digits, _ and -", s)
		}
	}
	if s == "" {
		return fmt.Errorf("a parameter without a name")
	}
	if reserved[s] {
		return fmt.Errorf("parameter %s: the table has a column of this name", s)
	}
	return nil
}

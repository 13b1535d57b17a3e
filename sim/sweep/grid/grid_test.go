package grid

import (
	"fmt"
	"strings"
	"testing"
)

// rows is a grid as text: one line for each row.
func rows(g *Grid) string {
	var l []string
	for i := range g.Len() {
		l = append(l, strings.Trim(fmt.Sprint(g.Row(i)), "[]"))
	}
	return strings.Join(l, "\n")
}

func TestParse(t *testing.T) {
	tests := []struct{ name, file, want string }{
		{"none", "seed = 1", ""},
		{"list, last fastest", "[sweep]\nrate = [\"1mbit\", 2]\ncc = [\"a\", \"b\"]",
			"rate=1mbit cc=a\nrate=1mbit cc=b\nrate=2 cc=a\nrate=2 cc=b"},
		{"one value", "[sweep]\nx = 0.5\ny = true", "x=0.5 y=true"},
		{"decimals", "[sweep]\nx = {from = 0.1, to = 0.5, step = 0.1}", "x=0.1\nx=0.2\nx=0.3\nx=0.4\nx=0.5"},
		{"step beyond the end", "[sweep]\nx = {from = 0, to = 5, step = 2}", "x=0\nx=2\nx=4"},
		{"downward", "[sweep]\nx = {from = 3, to = 1, step = -1}", "x=3\nx=2\nx=1"},
		{"step of one", "[sweep]\nseed = {from = 1, to = 3}", "seed=1\nseed=2\nseed=3"},
		{"n values", "[sweep]\nx = {from = 0, to = 1, n = 5}", "x=0\nx=0.25\nx=0.5\nx=0.75\nx=1"},
		{"log", "[sweep]\nx = {from = 1, to = 1000, n = 4, log = true}", "x=1\nx=10\nx=100\nx=1000"},
		{"log, rounded", "[sweep]\nx = {from = 10, to = 1000, n = 4, log = true}", "x=10\nx=46.4159\nx=215.443\nx=1000"},
		{"points", "[sweep]\npoints = [{d = \"1ms\", cc = \"a\"}, {cc = \"b\", d = \"2ms\"}]\nseed = [1, 2]",
			"d=1ms cc=a seed=1\nd=1ms cc=a seed=2\nd=2ms cc=b seed=1\nd=2ms cc=b seed=2"},
		{"points as tables", "[[sweep.points]]\nb = 1\na = 2\n[[sweep.points]]\na = 3\nb = 4", "b=1 a=2\nb=4 a=3"},
		{"dotted", "sweep.z = [1]\nsweep.a = [2]", "z=1 a=2"},
		{"subtable", "[sweep.x]\nfrom = 1\nto = 2\n[sweep.a]\nfrom = 1\nto = 1", "x=1 a=1\nx=2 a=1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g, err := Parse("f", []byte(tt.file))
			if err != nil {
				t.Fatal(err)
			}
			if got := rows(g); got != tt.want {
				t.Errorf("got\n%s\nwant\n%s", got, tt.want)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	tests := []struct{ file, want string }{
		{"x = [", "f:1:"},
		{"\n[sweep]\na = [1]\nb = []", "f:4:1: sweep: b has no values"},
		{"[sweep]\na = []\nb = {from = 2, to = 1}", "f:2:1: sweep: a has no values\nf:3:1: sweep: b: a step of 1"},
		{"[sweep]\nrow = [1]", "f:2:1: sweep: parameter row: the table has a column"},
		{"[sweep]\n\"a b\" = [1]", "f:2:1: sweep: parameter \"a b\": want a letter"},
		{"[sweep]\na = [[1]]", "f:2:1: sweep: a: want texts or numbers"},
		{"[sweep]\na = [1, 1]", "f:2:1: a has the value 1 twice"},
		{"[sweep]\na = [1]\npoints = [{a = 1}]", "f:3:1: a is set twice"},
		{"[sweep]\npoints = [{a = 1}, {b = 1}]", "point 1 does not set b"},
		{"[sweep]\npoints = [1]", "point 1: want a table"},
		{"[sweep]\na = {from = 1, to = 2, by = 3}", "not by"},
		{"[sweep]\na = {from = 1}", "to: want a number"},
		{"[sweep]\na = {from = 1, to = 5, step = -1}", "a step of -1 never gets from 1 to 5"},
		{"[sweep]\na = {from = 1, to = 5, step = 0}", "a step of 0 never"},
		{"[sweep]\na = {from = 0, to = 5, n = 3, log = true}", "above zero"},
		{"[sweep]\na = {from = 1, to = 5, log = true}", "n: want"},
		{"[sweep]\na = {from = 1, to = 5, n = 3, step = 1}", "not both"},
		{"[sweep]\na = {from = 0, to = 1, step = 1e-12}", "more than 1000000 values"},
		{"[sweep]\na = {from = 1, to = 10000}\nb = {from = 1, to = 10000}", "f:3:1: the sweep has more than"},
		{"sweep = 3", "want a table"},
	}
	for _, tt := range tests {
		_, err := Parse("f", []byte(tt.file))
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: error %v, want %q", tt.file, err, tt.want)
		}
	}
}

func TestSet(t *testing.T) {
	file := "[sweep]\na = [1, 2]\npoints = [{p = 1, q = 2}, {p = 3, q = 4}]"
	tests := []struct {
		set  []string
		want string
		err  string
	}{
		{[]string{"a=9"}, "a=9 p=1 q=2\na=9 p=3 q=4", ""},
		{[]string{"a=9", "a=x=y"}, "a=9 p=1 q=2\na=9 p=3 q=4\na=x=y p=1 q=2\na=x=y p=3 q=4", ""},
		{[]string{"z=1"}, "a=1 p=1 q=2 z=1\na=1 p=3 q=4 z=1\na=2 p=1 q=2 z=1\na=2 p=3 q=4 z=1", ""},
		{[]string{"p=1"}, "", "set together (p, q)"},
		{[]string{"a"}, "", "want name=value"},
		{[]string{"hash=1"}, "", "the table has a column"},
		{[]string{"a=1", "a=1"}, "", "twice"},
	}
	for _, tt := range tests {
		g, err := Parse("f", []byte(file))
		if err != nil {
			t.Fatal(err)
		}
		err = g.Set(tt.set)
		if tt.err != "" {
			if err == nil || !strings.Contains(err.Error(), tt.err) {
				t.Errorf("%q: error %v, want %q", tt.set, err, tt.err)
			}
			continue
		}
		if err != nil || rows(g) != tt.want {
			t.Errorf("%q: %v, got\n%s\nwant\n%s", tt.set, err, rows(g), tt.want)
		}
	}
}

// FuzzParse sees that no text makes the parser panic, and that what it accepts has rows.
func FuzzParse(f *testing.F) {
	f.Add([]byte("[sweep]\na = {from = 1, to = 3}\npoints = [{b = 1}]"))
	f.Add([]byte("[[sweep.points]]\na = 1\n[sweep.points.b]\nc = 2"))
	f.Add([]byte("sweep.a.from = 1\nsweep.a.to = 2"))
	f.Fuzz(func(t *testing.T, text []byte) {
		g, err := Parse("f", text)
		if err != nil {
			return
		}
		if n := g.Len(); n < 1 || n > MaxRows || len(g.Row(n-1)) != len(g.Names()) {
			t.Errorf("%d rows of %v", n, g.Names())
		}
	})
}

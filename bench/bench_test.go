package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestUnitFormat(t *testing.T) {
	for _, c := range []struct {
		unit unit
		v    float64
		want string
	}{
		{bitsPerSecond, 12.43e9, "12.4 Gbit/s"},
		{bitsPerSecond, 950e6, "950 Mbit/s"},
		{seconds, 17.25e-6, "17.2 µs"},
		{seconds, 0.0012, "1.20 ms"},
		{seconds, 0, "0.00 ns"},
		{perSecond, 7663, "7663/s"},
		{perSecond, 204321, "204k/s"},
		{bytesUnit, 5529, "5.4 KiB"},
		{bytesUnit, 17, "17 B"},
		{number, 10000, "10000"},
	} {
		if got := c.unit.format(c.v); got != c.want {
			t.Errorf("%v in %q: %q, want %q", c.v, c.unit, got, c.want)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		v    []float64
		want float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{9, 1, 2}, 2}, {[]float64{4, 1, 2, 9}, 3}} {
		if got := median(c.v); got != c.want {
			t.Errorf("median of %v: %v, want %v", c.v, got, c.want)
		}
	}
}

func TestRow(t *testing.T) {
	for _, c := range []struct {
		name             string
		want             verdict
		target           float64
		kernel, alptrace []float64
		figure           float64
		passed           bool
	}{
		{"ratio of each repetition", ratioAtLeast, 0.5, []float64{10, 20, 40}, []float64{5, 12, 16}, 0.5, true},
		{"ratio too small", ratioAtLeast, 0.5, []float64{8}, []float64{2}, 0.25, false},
		{"ratio too great", ratioAtMost, 3, []float64{1}, []float64{3.5}, 3.5, false},
		{"added", addedAtMost, 2, []float64{1, 1, 1}, []float64{2, 3, 9}, 2, true},
		{"alone", valueAtMost, 16, nil, []float64{17}, 17, false},
		{"alone, enough", valueAtLeast, 10, nil, []float64{10}, 10, true},
		{"no target", ratioAtMost, 0, []float64{1}, []float64{99}, 99, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := row{measurement: measurement{want: c.want, target: c.target}, Kernel: c.kernel, Alptrace: c.alptrace}
			if got := r.figure(); got != c.figure {
				t.Errorf("figure %v, want %v", got, c.figure)
			}
			if got := r.passed(); got != c.passed {
				t.Errorf("passed %v, want %v", got, c.passed)
			}
		})
	}
}

// fake is a plan whose values need no laboratory.
func fake(v map[string]map[string]float64, err error) [][]measurement {
	once := func(_ *bench, s side) (map[string]float64, error) { return v[s.name], err }
	return [][]measurement{{
		{id: "rtt/p50", label: "one", unit: seconds, want: ratioAtMost, target: 3, once: once, part: "p50"},
		{id: "rtt/p99", label: "two", unit: seconds, want: ratioAtMost, target: 3, once: once, part: "p99"},
	}}
}

func TestReports(t *testing.T) {
	b := &bench{ctx: t.Context(), kernel: side{name: "kernel"}, tested: side{name: "alptrace"}}
	rows := b.measureAll(fake(map[string]map[string]float64{
		"kernel":   {"p50": 10e-6, "p99": 20e-6},
		"alptrace": {"p50": 20e-6, "p99": 80e-6},
	}, nil), 3, func(string) {})

	var table bytes.Buffer
	if err := writeTable(rows, [2]string{"kernel", "alptrace"}, &table); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"2.00..2.00", "<= 3.00", "met", "MISSED", "80.0 µs"} {
		if !strings.Contains(table.String(), want) {
			t.Errorf("the table has no %q:\n%s", want, &table)
		}
	}
	var js bytes.Buffer
	if err := writeJSON(rows, &js); err != nil {
		t.Fatal(err)
	}
	if !json.Valid(js.Bytes()) {
		t.Errorf("not JSON:\n%s", &js)
	}
	var lines bytes.Buffer
	if err := writeGoBench(rows, &lines); err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(lines.String(), "BenchmarkRtt/p99/stack=alptrace 1 8e-05 sec/op\n"); n != 3 {
		t.Errorf("%d lines of p99, want one a repetition:\n%s", n, &lines)
	}
	var svg bytes.Buffer
	if err := writePicture(rows, &svg); err != nil {
		t.Fatal(err)
	}
	for d := xml.NewDecoder(&svg); ; {
		if _, err := d.Token(); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("the picture is no XML: %v", err)
		}
	}
	if err := outcome(rows, false); err != nil {
		t.Errorf("outcome without -check: %v", err)
	}
	if err := outcome(rows, true); err == nil {
		t.Error("outcome with -check: no error though a target is missed")
	}
}

func TestFailure(t *testing.T) {
	b := &bench{ctx: t.Context(), kernel: side{name: "kernel"}, tested: side{name: "alptrace"}}
	rows := b.measureAll(fake(nil, errors.New("no luck")), 3, func(string) {})
	var table bytes.Buffer
	if err := writeTable(rows, [2]string{"kernel", "alptrace"}, &table); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(table.String(), "no luck") {
		t.Errorf("the table does not say why:\n%s", &table)
	}
	if outcome(rows, false) == nil {
		t.Error("no error though a measurement failed")
	}
	if err := writePicture(rows, io.Discard); err != nil {
		t.Errorf("picture: %v", err)
	}
}

func TestPlan(t *testing.T) {
	ids := map[string]bool{}
	for _, g := range plan() {
		if g[0].once == nil {
			t.Errorf("%s is not measured", g[0].id)
		}
		for _, m := range g {
			if ids[m.id] {
				t.Errorf("%s twice", m.id)
			}
			ids[m.id] = true
		}
	}
	shown := 0
	for _, column := range columns() {
		for _, p := range column {
			for _, id := range p.ids {
				if !ids[id] {
					t.Errorf("the picture shows %s, which is not measured", id)
				}
				shown++
			}
		}
	}
	if shown != len(ids) {
		t.Errorf("the picture shows %d measurements of %d", shown, len(ids))
	}
	if _, err := selected(plan(), "^udp/"); err != nil {
		t.Error(err)
	}
	if _, err := selected(plan(), "nothing"); err == nil {
		t.Error("a selection of nothing is no error")
	}
}

package sweep

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/alptrace/alptrace/lab/topo"
	"github.com/alptrace/alptrace/sim"
	"github.com/alptrace/alptrace/sim/sweep/grid"
)

// Open reads a lab file and makes the plan of its sweep, with what set ("name=value")
// changes in it. Every value of every parameter is tried with the first values of the
// others, so that what is wrong with it is said before anything runs.
func Open(path string, set []string) (*Plan, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("lab file: %w", err)
	}
	g, err := grid.Parse(path, text)
	if err != nil {
		return nil, err
	}
	if err := g.Set(set); err != nil {
		return nil, fmt.Errorf("set %w", err)
	}
	p := &Plan{Name: path, Text: text, Grid: *g}
	stride := g.Len()
	if err := p.try(0); err != nil {
		return nil, err
	}
	for _, a := range g.Axes {
		stride /= len(a.Points)
		for k := 1; k < len(a.Points); k++ {
			if err := p.try(k * stride); err != nil {
				return nil, err
			}
		}
	}
	return p, nil
}

// try builds the simulation of a row and notes the files that it has read.
func (p *Plan) try(row int) error {
	params := p.Grid.Row(row)
	lab, err := topo.Parse(p.Name, p.Text, grid.Map(params))
	if err == nil {
		var s *sim.Sim
		if s, err = sim.Load(lab, sim.Options{}); err == nil {
			err = s.Close()
		}
	}
	if err != nil {
		if len(params) == 0 {
			return err
		}
		return fmt.Errorf("%w\n(with %s)", err, describe(params))
	}
	for _, h := range lab.Hosts {
		for _, t := range h.Traffic {
			if t.File != "" {
				p.addInput(t.File, t.Text)
			}
		}
	}
	for _, l := range lab.Links {
		for _, t := range []string{traceFile(l.AB), traceFile(l.BA)} {
			if t == "" {
				continue
			}
			text, err := os.ReadFile(t)
			if err != nil {
				return err
			}
			p.addInput(t, text)
		}
	}
	return nil
}

// addInput notes a file.
func (p *Plan) addInput(path string, text []byte) {
	if !slices.ContainsFunc(p.Inputs, func(f File) bool { return f.Path == path }) {
		p.Inputs = append(p.Inputs, File{path, text})
	}
}

// List writes a line for each row: its number and its parameters.
func (p *Plan) List(w io.Writer) error {
	out := bufio.NewWriter(w)
	for i := range p.Grid.Len() {
		fmt.Fprintf(out, "%d %s\n", i, describe(p.Grid.Row(i)))
	}
	return out.Flush()
}

// Files are the scenario's file and those that it names.
func (p *Plan) Files() []File {
	return append([]File{{filepath.Base(p.Name), p.Text}}, p.Inputs...)
}

// Base is the scenario's name: that of its file without the suffix.
func (p *Plan) Base() string {
	b := filepath.Base(p.Name)
	return strings.TrimSuffix(b, filepath.Ext(b))
}

// Simulate is the runner of lab files, for [Work].
func Simulate(name string, text []byte) (Runner, error) {
	return func(params []grid.Param) ([]Cell, error) {
		lab, err := topo.Parse(name, text, grid.Map(params))
		if err != nil {
			return nil, err
		}
		s, err := sim.Load(lab, sim.Options{})
		if err != nil {
			return nil, err
		}
		res, err := s.Run(0)
		if err != nil {
			_ = s.Close() // err says more
			return nil, err
		}
		return cells(lab, res), s.Close()
	}, nil
}

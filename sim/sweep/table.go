package sweep

import (
	"bufio"
	"encoding/csv"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/alptrace/alptrace/sim/sweep/grid"
)

// Column is a column of a table.
type Column struct {
	Name string
	Kind Kind // Int, Float or Text; Null if no row has a value
}

// Table is the result of a sweep. Its columns are: row (its number in the grid, from 0),
// the parameters, error (Null where the run succeeded), and what was measured, in the
// order in which the rows have it.
type Table struct {
	Columns []Column
	Rows    [][]Value // of the kinds of their columns, or Null
}

// NewTable makes the table of a grid, of which all rows must be there.
func NewTable(g *grid.Grid, rows map[int]Row) *Table {
	t := &Table{Columns: []Column{{"row", Int}}}
	for _, n := range g.Names() {
		t.Columns = append(t.Columns, Column{Name: n})
	}
	t.Columns = append(t.Columns, Column{"error", Text})
	fixed := len(t.Columns)
	at := map[string]int{}
	for i := range g.Len() {
		r := rows[i]
		v := []Value{IntValue(int64(i))}
		for _, p := range g.Row(i) {
			v = append(v, parseValue(p.Value))
		}
		v = append(v, Value{})
		if r.Error != "" {
			v[len(v)-1] = TextValue(r.Error)
		}
		for k := range v {
			t.Columns[k].Kind = max(t.Columns[k].Kind, v[k].Kind)
		}
		for _, c := range r.Cells {
			k, ok := at[c.Name]
			if !ok {
				k = len(t.Columns)
				at[c.Name] = k
				t.Columns = append(t.Columns, Column{Name: c.Name})
			}
			for len(v) <= k {
				v = append(v, Value{})
			}
			v[k] = c.Value
			t.Columns[k].Kind = max(t.Columns[k].Kind, c.Value.Kind)
		}
		t.Rows = append(t.Rows, v)
	}
	for i, v := range t.Rows {
		for len(v) < len(t.Columns) {
			v = append(v, Value{})
		}
		for k := range v {
			if k > 0 && k < fixed-1 && t.Columns[k].Kind == Text {
				v[k] = TextValue(g.Row(i)[k-1].Value) // as it was written
			}
			v[k] = v[k].as(t.Columns[k].Kind)
		}
		t.Rows[i] = v
	}
	return t
}

// as is the value in a column of kind k, which is not narrower.
func (v Value) as(k Kind) Value {
	switch {
	case v.Kind == Null || v.Kind == k:
		return v
	case k == Float:
		return FloatValue(float64(v.I))
	}
	return TextValue(v.String())
}

// formats are the kinds of files, by suffix.
var formats = map[string]func(io.Writer, *Table) error{
	".csv":     writeCSV,
	".parquet": writeParquet,
}

// CheckOutput says whether a table can be written to a file of this name.
func CheckOutput(path string) error {
	if formats[strings.ToLower(filepath.Ext(path))] == nil {
		return fmt.Errorf("%s: want a name that ends in .csv or .parquet", path)
	}
	return nil
}

// WriteTables writes the table to files of the kinds that their suffixes say. Each
// appears as a whole or not at all.
func WriteTables(paths []string, t *Table) error {
	for _, p := range paths {
		if err := CheckOutput(p); err != nil {
			return err
		}
		if err := writeFile(p, func(w io.Writer) error {
			return formats[strings.ToLower(filepath.Ext(p))](w, t)
		}); err != nil {
			return fmt.Errorf("%s: %w", p, err)
		}
	}
	return nil
}

// writeFile replaces a file with what write writes.
func writeFile(path string, write func(io.Writer) error) (err error) {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
		}
	}()
	w := bufio.NewWriterSize(f, 1<<18)
	if err := write(w); err != nil {
		return err
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// writeCSV writes CSV as RFC 4180 has it, but with lines ended by LF: a line of names,
// then the rows. Null is an empty field.
func writeCSV(w io.Writer, t *Table) error {
	out := csv.NewWriter(w)
	fields := make([]string, len(t.Columns))
	for i, c := range t.Columns {
		fields[i] = c.Name
	}
	if err := out.Write(fields); err != nil {
		return err
	}
	for _, r := range t.Rows {
		for i, v := range r {
			fields[i] = v.String()
		}
		if err := out.Write(fields); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

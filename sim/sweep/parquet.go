package sweep

import (
	"io"
	"slices"

	"github.com/parquet-go/parquet-go"
)

// writeParquet writes one row group of Snappy-compressed columns (INT64, DOUBLE, or
// BYTE_ARRAY of UTF-8), all optional. The file has nothing of the time or machine.
func writeParquet(w io.Writer, t *Table) error {
	out := parquet.NewWriter(w,
		parquet.NewSchema("sweep", ordered(t.Columns)),
		parquet.Compression(&parquet.Snappy),
		parquet.CreatedBy("alplab", "1", ""),
	)
	row := make(parquet.Row, len(t.Columns))
	for _, r := range t.Rows {
		for i, v := range r {
			level := 1
			var pv parquet.Value
			switch v.Kind {
			case Int:
				pv = parquet.Int64Value(v.I)
			case Float:
				pv = parquet.DoubleValue(v.F)
			case Text:
				pv = parquet.ByteArrayValue([]byte(v.S))
			default:
				level = 0
			}
			row[i] = pv.Level(0, level, i)
		}
		if _, err := out.WriteRows([]parquet.Row{row}); err != nil {
			return err
		}
	}
	return out.Close()
}

// orderedGroup is a group whose fields keep the table's order; parquet.Group sorts them
// by name.
type orderedGroup struct {
	parquet.Group
	fields []parquet.Field
}

// Fields are the columns.
func (g *orderedGroup) Fields() []parquet.Field { return g.fields }

// ordered is a schema's root.
func ordered(columns []Column) parquet.Node {
	g := parquet.Group{}
	at := map[string]int{}
	for i, c := range columns {
		at[c.Name] = i
		switch c.Kind {
		case Int:
			g[c.Name] = parquet.Optional(parquet.Int(64))
		case Float:
			g[c.Name] = parquet.Optional(parquet.Leaf(parquet.DoubleType))
		default:
			g[c.Name] = parquet.Optional(parquet.String())
		}
	}
	fields := g.Fields()
	slices.SortFunc(fields, func(a, b parquet.Field) int { return at[a.Name()] - at[b.Name()] })
	return &orderedGroup{g, fields}
}

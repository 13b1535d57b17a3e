package topo

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2/unstable"
)

// decoder turns values into what they mean, and collects what is wrong.
type decoder struct {
	errs Errors
}

func (d *decoder) fail(pos Pos, format string, args ...any) {
	d.errs = append(d.errs, &Error{pos, fmt.Sprintf(format, args...)})
}

// want complains of a value.
func (d *decoder) want(v *value, what string) {
	if v.text != "" {
		d.fail(v.pos, "%q: want %s", v.text, what)
		return
	}
	d.fail(v.pos, "want %s", what)
}

// fields hands each field of a table to the function of its name.
func (d *decoder) fields(v *value, what string, known map[string]func(*value)) {
	if v.kind != unstable.InlineTable {
		d.want(v, "a table for "+what)
		return
	}
	for _, f := range v.table {
		if set := known[f.name]; set != nil {
			set(f.val)
			continue
		}
		var names []string
		for n := range known {
			names = append(names, n)
		}
		slices.Sort(names)
		d.fail(f.pos, "%q: unknown in %s, which may have %s", f.name, what, strings.Join(names, ", "))
	}
}

// str sets a string.
func (d *decoder) str(to *string) func(*value) {
	return func(v *value) {
		if v.kind != unstable.String {
			d.want(v, "a string, in quotes")
			return
		}
		*to = v.text
	}
}

func (d *decoder) boolean(to *bool) func(*value) {
	return func(v *value) {
		b, err := strconv.ParseBool(v.text)
		if err != nil || v.kind != unstable.Bool && v.kind != unstable.String {
			d.want(v, "true or false")
			return
		}
		*to = b
	}
}

// duration sets a time, written as "1.5s".
func (d *decoder) duration(to *time.Duration) func(*value) {
	return func(v *value) {
		t, err := time.ParseDuration(v.text)
		if err != nil || t < 0 || v.kind != unstable.String {
			d.want(v, `a time, as "1.5s" or "20ms"`)
			return
		}
		*to = t
	}
}

// integer sets a number within bounds.
func integer[T int | uint16 | uint64 | int64](d *decoder, to *T, lo, hi uint64) func(*value) {
	return func(v *value) {
		n, err := strconv.ParseUint(strings.ReplaceAll(v.text, "_", ""), 0, 64)
		if err != nil || n < lo || n > hi || v.kind != unstable.Integer && v.kind != unstable.String {
			d.want(v, fmt.Sprintf("a number from %d to %d", lo, hi))
			return
		}
		*to = T(n)
	}
}

// units of bytes; as network people, kB is 1000.
var byteUnits = []struct {
	name string
	n    float64
}{{"kib", 1 << 10}, {"mib", 1 << 20}, {"gib", 1 << 30}, {"kb", 1e3}, {"mb", 1e6}, {"gb", 1e9}, {"tb", 1e12}, {"b", 1}}

var bitUnits = []struct {
	name string
	n    float64
}{{"kbit", 1e3}, {"mbit", 1e6}, {"gbit", 1e9}, {"bit", 1}}

// size sets a number of bytes, as 1000 or "10MB".
func (d *decoder) size(to *int64) func(*value) {
	return d.scaled(to, byteUnits, `bytes, as 1000, "64KiB" or "10MB"`)
}

// rate sets bits per second, as "10mbit".
func (d *decoder) rate(to *int64) func(*value) {
	return d.scaled(to, bitUnits, `bits per second, as "10mbit"`)
}

func (d *decoder) scaled(to *int64, units []struct {
	name string
	n    float64
}, what string) func(*value) {
	return func(v *value) {
		s, unit := strings.ToLower(strings.TrimSpace(v.text)), 1.0
		for _, u := range units {
			if head, ok := strings.CutSuffix(s, u.name); ok {
				s, unit = strings.TrimSpace(head), u.n
				break
			}
		}
		f, err := strconv.ParseFloat(strings.ReplaceAll(s, "_", ""), 64)
		if err != nil || !(f >= 0) || f*unit > 1<<60 || v.kind == unstable.Bool {
			d.want(v, what)
			return
		}
		*to = int64(f * unit)
	}
}

// list hands out the elements of an array.
func (d *decoder) list(v *value, what string, each func(*value)) {
	if v.kind != unstable.Array {
		d.want(v, what)
		return
	}
	for _, e := range v.list {
		each(e)
	}
}

// words splits a command line as a shell does: blanks separate, quotes and
// backslashes keep them. Nothing else is special.
func words(s string) ([]string, error) {
	var (
		out   []string
		cur   strings.Builder
		in    bool // a word has begun
		quote byte
	)
	for i := 0; i < len(s); i++ {
		c := s[i]
		switch {
		case quote == '\'' && c != '\'', quote == '"' && c != '"' && c != '\\':
			cur.WriteByte(c)
		case quote != 0 && c == quote:
			quote = 0
		case c == '\\':
			if i++; i == len(s) {
				return nil, fmt.Errorf("a backslash at the end")
			}
			if quote == '"' && !strings.ContainsRune("\"\\$`", rune(s[i])) {
				cur.WriteByte('\\')
			}
			cur.WriteByte(s[i])
			in = true
		case c == '\'' || c == '"':
			quote, in = c, true
		case strings.ContainsRune(" \t\n", rune(c)):
			if in {
				out = append(out, cur.String())
				cur.Reset()
				in = false
			}
		default:
			cur.WriteByte(c)
			in = true
		}
	}
	if quote != 0 {
		return nil, fmt.Errorf("a quote %c that is not closed", quote)
	}
	if in {
		out = append(out, cur.String())
	}
	return out, nil
}

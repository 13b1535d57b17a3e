package main

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"

	"golang.org/x/sys/unix"
)

// writeAll writes the table to w, and the picture and the values into dir. names are
// of the two sides; a picture is drawn where the first is the kernel.
func writeAll(rows []row, names [2]string, dir string, w io.Writer) error {
	if err := writeTable(rows, names, w); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, write := range map[string]func([]row, io.Writer) error{
		"bench.json": writeJSON, "bench.txt": writeGoBench, "bench.svg": writePicture,
	} {
		if name == "bench.svg" && names[0] != "kernel" {
			continue
		}
		if err := writeFile(filepath.Join(dir, name), rows, write); err != nil {
			return err
		}
	}
	return nil
}

func writeFile(path string, rows []row, write func([]row, io.Writer) error) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := write(rows, f); err != nil {
		_ = f.Close()
		return fmt.Errorf("write %s: %w", path, err)
	}
	return f.Close()
}

// writeTable writes the rows, aligned. names are of the two sides.
func writeTable(rows []row, names [2]string, w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintf(t, "measurement\t%s\t%s\tratio\tleast..most\ttarget\t\n", names[0], names[1])
	fmt.Fprintln(t, "-----------\t------\t--------\t-----\t-----------\t------\t")
	for i := range rows {
		r := &rows[i]
		if r.Err != nil {
			fmt.Fprintf(t, "%s\tfailed\t\t\t\t\t\n", r.label)
			continue
		}
		kernel := "-"
		if len(r.Kernel) > 0 {
			kernel = r.unit.format(median(r.Kernel))
		}
		f := r.figures()
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\t%s\n", r.label, kernel, r.unit.format(median(r.Alptrace)),
			r.show(r.figure()), r.show(slices.Min(f))+".."+r.show(slices.Max(f)), r.showTarget(), r.mark())
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for i := range rows {
		if rows[i].Err != nil && (i == 0 || rows[i].Err != rows[i-1].Err) {
			fmt.Fprintf(w, "\n%s failed: %v\n", rows[i].label, rows[i].Err)
		}
	}
	return nil
}

// show prints what figure returns.
func (r *row) show(v float64) string {
	switch r.want {
	case ratioAtLeast, ratioAtMost:
		return fmt.Sprintf("%.2f", v)
	case addedAtMost:
		if v >= 0 {
			return "+" + r.unit.format(v)
		}
		return "-" + r.unit.format(-v)
	default:
		return r.unit.format(v)
	}
}

func (r *row) showTarget() string {
	switch {
	case r.target == 0:
		return "-"
	case r.want == ratioAtLeast, r.want == valueAtLeast:
		return ">= " + strings.TrimPrefix(r.show(r.target), "+")
	default:
		return "<= " + strings.TrimPrefix(r.show(r.target), "+")
	}
}

func (r *row) mark() string {
	switch {
	case r.target == 0:
		return ""
	case r.passed():
		return "met"
	default:
		return "MISSED"
	}
}

// format prints a value with three digits and a fitting prefix.
func (u unit) format(v float64) string {
	switch u {
	case number:
		return fmt.Sprintf("%.0f", v)
	case bytesUnit:
		if math.Abs(v) >= 1024 {
			return fmt.Sprintf("%.1f KiB", v/1024)
		}
		return fmt.Sprintf("%.0f B", v)
	case perSecond:
		if v >= 10000 {
			return fmt.Sprintf("%.0fk/s", v/1000)
		}
		return fmt.Sprintf("%.0f/s", v)
	}
	for _, p := range []struct {
		factor float64
		prefix string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}, {1, ""}, {1e-3, "m"}, {1e-6, "µ"}, {1e-9, "n"}} {
		if math.Abs(v) >= p.factor || p.factor == 1e-9 {
			x := v / p.factor
			digits := max(0, 2-int(math.Floor(math.Log10(max(math.Abs(x), 1)))))
			return fmt.Sprintf("%.*f %s%s", digits, x, p.prefix, u)
		}
	}
	return ""
}

// writeJSON writes every value of every repetition, in base units.
func writeJSON(rows []row, w io.Writer) error {
	type record struct {
		ID       string    `json:"id"`
		Label    string    `json:"label"`
		Unit     string    `json:"unit,omitempty"`
		Kernel   []float64 `json:"kernel,omitempty"`
		Alptrace []float64 `json:"alptrace"`
		Figure   float64   `json:"figure"`
		Shown    string    `json:"shown"`
		Target   string    `json:"target,omitempty"`
		Met      bool      `json:"met"`
		Error    string    `json:"error,omitempty"`
	}
	out := struct {
		Kernel string   `json:"kernel"`
		CPUs   int      `json:"cpus"`
		Rows   []record `json:"rows"`
	}{Kernel: release(), CPUs: runtime.NumCPU()}
	for i := range rows {
		r := &rows[i]
		rec := record{ID: r.id, Label: r.label, Unit: string(r.unit), Kernel: r.Kernel, Alptrace: r.Alptrace, Met: r.passed()}
		if r.Err != nil {
			rec.Error = r.Err.Error()
		} else {
			rec.Figure, rec.Shown = r.figure(), r.show(r.figure())
		}
		if r.target != 0 {
			rec.Target = r.showTarget()
		}
		out.Rows = append(out.Rows, rec)
	}
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	return e.Encode(out)
}

// writeGoBench writes the values as go test -bench does, so that benchstat can
// compare two runs, or the two sides of one (-col /stack).
func writeGoBench(rows []row, w io.Writer) error {
	units := map[unit]string{bitsPerSecond: "bit/s", perSecond: "ops/s", seconds: "sec/op", bytesUnit: "B/conn", number: "conns"}
	if _, err := fmt.Fprintf(w, "goos: %s\ngoarch: %s\npkg: github.com/alptrace/alptrace/bench\n", runtime.GOOS, runtime.GOARCH); err != nil {
		return err
	}
	for i := range rows {
		r := &rows[i]
		name := strings.ToUpper(r.id[:1]) + r.id[1:]
		for stack, values := range map[string][]float64{"kernel": r.Kernel, "alptrace": r.Alptrace} {
			for _, v := range values {
				if _, err := fmt.Fprintf(w, "Benchmark%s/stack=%s 1 %g %s\n", name, stack, v, units[r.unit]); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// release is the kernel's, as uname -r has it.
func release() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return "unknown"
	}
	return unix.ByteSliceToString(u.Release[:])
}

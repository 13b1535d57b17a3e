package sweep

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/alptrace/alptrace/sim/sweep/grid"
)

// NewProgress is a bar on a terminal; elsewhere a line now and then. Both have a line
// for each row that failed.
func NewProgress(w io.Writer, terminal bool) Progress {
	if terminal {
		return &bar{w: w}
	}
	return &lines{w: w, every: 10 * time.Second}
}

// failure is the line of a row that failed.
func failure(r Row, params []grid.Param) string {
	return fmt.Sprintf("row %d (%s): %s\n", r.Index, describe(params), r.Error)
}

// describe is a row's parameters as text.
func describe(params []grid.Param) string {
	var l []string
	for _, p := range params {
		l = append(l, p.String())
	}
	return strings.Join(l, " ")
}

// bar is a progress bar.
type bar struct {
	w io.Writer
	b *progressbar.ProgressBar
}

// Start draws it.
func (b *bar) Start(total, done int) {
	b.b = progressbar.NewOptions(total,
		progressbar.OptionSetWriter(b.w),
		progressbar.OptionSetDescription("rows"),
		progressbar.OptionShowCount(),
		progressbar.OptionShowIts(),
		progressbar.OptionSetItsString("rows"),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionFullWidth(),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionSetTheme(progressbar.ThemeASCII),
	)
	if done > 0 {
		fmt.Fprintf(b.w, "%d of %d rows were done before\n", done, total)
	}
	_ = b.b.Set(done)
}

// Row moves it by one.
func (b *bar) Row(r Row, params []grid.Param) {
	if r.Error != "" {
		_ = b.b.Clear()
		fmt.Fprint(b.w, failure(r, params))
	}
	_ = b.b.Add(1)
}

// End leaves it as it is.
func (b *bar) End() {
	_ = b.b.Exit()
	fmt.Fprintln(b.w)
}

// lines is progress where nobody watches: the first row, the last, and one every while.
type lines struct {
	w           io.Writer
	every       time.Duration
	total, done int
	begin, last time.Time
	ran         int
}

// Start says how much there is to do.
func (l *lines) Start(total, done int) {
	l.total, l.done = total, done
	l.begin = time.Now()
	l.last = l.begin
	if done > 0 {
		fmt.Fprintf(l.w, "%d of %d rows were done before\n", done, total)
	}
}

// Row counts one.
func (l *lines) Row(r Row, params []grid.Param) {
	l.done++
	l.ran++
	if r.Error != "" {
		fmt.Fprint(l.w, failure(r, params))
	}
	if now := time.Now(); l.done == l.total || now.Sub(l.last) >= l.every {
		l.last = now
		elapsed := now.Sub(l.begin)
		fmt.Fprintf(l.w, "%d of %d rows, %.3g rows/s, %v\n", l.done, l.total,
			float64(l.ran)/elapsed.Seconds(), elapsed.Round(time.Second/10))
	}
}

// End does nothing.
func (l *lines) End() {}

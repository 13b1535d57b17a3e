package sweep

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"
	"sync"
	"time"

	"github.com/alptrace/alptrace/sim/sweep/grid"
)

// Plan is a scenario and the grid of its parameters.
type Plan struct {
	Name    string    // the scenario's file, as given
	Text    []byte    // what is in it
	Inputs  []File    // those that it names
	Grid    grid.Grid // with what the command line has set
	Program string    // the version of what runs it
}

// File is a file of a scenario.
type File struct {
	Path string
	Text []byte
}

// header is that of the plan's logs.
func (p *Plan) header(s Shard) Header {
	h := sha256.New()
	for _, f := range append([]File{{"", p.Text}, {"", must(json.Marshal(p.Grid))}}, p.Inputs...) {
		fmt.Fprintf(h, "%q %d\n", f.Path, len(f.Text))
		h.Write(f.Text)
	}
	return Header{
		Schema: schema, Scenario: p.Name, Digest: hex.EncodeToString(h.Sum(nil)),
		Program: p.Program, Grid: p.Grid, Shard: s,
	}
}

// Config is how a plan is run.
type Config struct {
	Shard    Shard
	Outputs  []string      // the tables, their kinds by their suffixes; a shard has none
	Log      string        // the log: the checkpoint, or a shard's result
	Worker   []string      // the command of a worker process, which calls [Work]
	Jobs     int           // worker processes; 0: one for each processor
	PerProc  int           // rows that a process runs before another takes its place; 0: all
	Timeout  time.Duration // wall-clock time of a row; 0: no limit
	Retry    bool          // run rows again that failed before
	Restart  bool          // forget what an existing log has
	Progress Progress      // nil: none
}

// Progress is told how a sweep goes on, by one goroutine.
type Progress interface {
	Start(total, done int) // rows of the shard, and those that the log had
	Row(r Row, params []grid.Param)
	End()
}

// Summary is how a sweep went.
type Summary struct {
	Rows    int   // of the shard
	Ran     int   // by this call
	Failed  int   // rows with an error, of all
	Dropped int64 // bytes of a torn end of the log
	Elapsed time.Duration
}

// Run runs the rows that the log lacks and writes the tables when it has all. When ctx
// ends, the error is ctx's and the log keeps what was done. Rows that failed are no
// error here: the summary counts them.
//
// The log is removed when the tables are written, unless rows failed.
func Run(ctx context.Context, p *Plan, c Config) (Summary, error) {
	begin := time.Now()
	if c.Restart {
		if err := os.Remove(c.Log); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return Summary{}, err
		}
	}
	l, err := OpenLog(c.Log, p.header(c.Shard))
	if err != nil {
		return Summary{}, err
	}
	defer l.Close()
	s := Summary{Dropped: l.Dropped}
	todo := l.todo(c.Retry)
	total := c.Shard.rows(p.Grid.Len())
	if c.Progress != nil {
		c.Progress.Start(total, total-len(todo))
		defer c.Progress.End()
	}
	s.Rows = total
	s.Ran, err = p.run(ctx, c, l, todo)
	s.Elapsed = time.Since(begin)
	s.Failed = l.failed()
	if err != nil {
		return s, err
	}
	if c.Shard != Whole {
		return s, nil
	}
	if err := WriteTables(c.Outputs, NewTable(&p.Grid, l.Rows)); err != nil {
		return s, err
	}
	if s.Failed > 0 {
		return s, nil
	}
	return s, os.Remove(c.Log)
}

// rows is how many of n rows are in the shard.
func (s Shard) rows(n int) int { return (n - s.Index + s.Count) / s.Count }

// todo is the rows to run, in order.
func (l *Log) todo(retry bool) []int {
	var rows []int
	h := &l.Header
	for i := h.Shard.Index - 1; i < h.Grid.Len(); i += h.Shard.Count {
		if r, ok := l.Rows[i]; !ok || retry && r.Error != "" {
			rows = append(rows, i)
		}
	}
	return rows
}

// failed counts rows with an error.
func (l *Log) failed() int {
	n := 0
	for _, r := range l.Rows {
		if r.Error != "" {
			n++
		}
	}
	return n
}

// run runs rows on worker processes and logs them; it says how many.
func (p *Plan) run(ctx context.Context, c Config, l *Log, todo []int) (int, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	jobs := c.Jobs
	if jobs <= 0 {
		jobs = runtime.GOMAXPROCS(0)
	}
	rows := make(chan int)
	done := make(chan Row, jobs)
	var wg sync.WaitGroup
	for range min(jobs, len(todo)) {
		wg.Go(func() {
			crew := crew{argv: c.Worker, hello: hello{p.Name, p.Text}, limit: c.Timeout, perProc: c.PerProc}
			defer crew.close()
			for i := range rows {
				r, err := crew.row(ctx, request{Index: i, Params: p.Grid.Row(i)})
				if err != nil {
					cancel(err)
					return
				}
				done <- r
			}
		})
	}
	wg.Go(func() {
		defer close(rows)
		for _, i := range todo {
			select {
			case rows <- i:
			case <-ctx.Done():
				return
			}
		}
	})
	go func() {
		wg.Wait()
		close(done)
	}()
	n, err := p.collect(c, l, done)
	if err != nil {
		cancel(err)
		for range done { // until the workers have ended
		}
		return n, err
	}
	return n, context.Cause(ctx)
}

// collect logs rows as they come. All that are there are brought to the disk at once, so
// that the disk keeps nobody waiting.
func (p *Plan) collect(c Config, l *Log, done <-chan Row) (n int, err error) {
	for r := range done {
		batch := []Row{r}
	more:
		for {
			select {
			case r, ok := <-done:
				if !ok {
					break more
				}
				batch = append(batch, r)
			default:
				break more
			}
		}
		for _, r := range batch {
			if err := l.Append(r); err != nil {
				return n, fmt.Errorf("log: %w", err)
			}
		}
		if err := l.Sync(); err != nil {
			return n, fmt.Errorf("log: %w", err)
		}
		n += len(batch)
		if c.Progress == nil {
			continue
		}
		for _, r := range batch {
			c.Progress.Row(r, p.Grid.Row(r.Index))
		}
	}
	return n, nil
}

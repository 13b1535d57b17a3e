package sweep

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"

	"github.com/alptrace/alptrace/sim/sweep/grid"
)

// Runner runs a scenario with a row's parameters and says what was measured, in the
// order of the table's columns. The same parameters must give the same cells. A runner
// has a process to itself while it runs, and may have had runs before in the same one.
type Runner func(params []grid.Param) ([]Cell, error)

// hello is the first message to a worker.
type hello struct {
	Name string `json:"name"`
	Text []byte `json:"text"`
}

// request asks a worker for a row.
type request struct {
	Index  int          `json:"row"`
	Params []grid.Param `json:"params"`
}

// reply is a worker's answer.
type reply struct {
	Row
	Panicked bool `json:"panicked,omitempty"` // the worker ends
}

// replyFD is the descriptor on which a worker answers, so that what a simulation prints
// does no harm.
const replyFD = 3

// Work is a worker process: it reads requests from standard input and answers on
// descriptor 3, until its input ends, which also ends a run under way: a worker does not
// outlive who started it. open makes the runner of a scenario, whose name and text it
// is given.
func Work(open func(name string, text []byte) (Runner, error)) error {
	out := os.NewFile(replyFD, "replies")
	if out == nil {
		return errors.New("a sweep starts this command: it is not for the command line")
	}
	lines := make(chan []byte)
	go func() {
		in := bufio.NewReader(os.Stdin)
		for {
			b, err := in.ReadBytes('\n')
			if err != nil {
				os.Exit(0)
			}
			lines <- b
		}
	}()
	var h hello
	if err := json.Unmarshal(<-lines, &h); err != nil {
		return fmt.Errorf("not a sweep's request: %w", err)
	}
	run, err := open(h.Name, h.Text)
	if err != nil {
		run = func([]grid.Param) ([]Cell, error) { return nil, err }
	}
	for b := range lines {
		var q request
		if err := json.Unmarshal(b, &q); err != nil {
			return err
		}
		a := serve(run, q)
		if err := answer(out, a); err != nil {
			return err
		}
		if a.Panicked {
			return nil
		}
	}
	return nil
}

// serve runs one row. A panic is its error.
func serve(run Runner, q request) (a reply) {
	a.Index = q.Index
	defer func() {
		if p := recover(); p != nil {
			a.Cells = nil
			a.Error = noAddresses(fmt.Sprintf("panic: %v", p))
			a.Detail = string(debug.Stack())
			a.Panicked = true
		}
	}()
	cells, err := run(q.Params)
	if err != nil {
		a.Error = err.Error()
		if a.Error == "" {
			a.Error = fmt.Sprintf("%T", err)
		}
		return a
	}
	a.Cells = cells
	return a
}

// answer writes one line.
func answer(w io.Writer, a reply) error {
	b, err := json.Marshal(a)
	if err != nil {
		return err
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

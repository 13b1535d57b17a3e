package sweep

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"syscall"
	"time"
)

// worker is a worker process as the sweep sees it.
type worker struct {
	cmd     *exec.Cmd
	in      io.WriteCloser
	replies chan reply // closed when the process has ended
	stderr  *head
	waited  error // of the process, when replies is closed
}

// startWorker starts one and tells it the scenario.
func startWorker(argv []string, h hello) (*worker, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer w.Close()
	k := &worker{cmd: exec.Command(argv[0], argv[1:]...), replies: make(chan reply, 1), stderr: &head{}}
	// Simulations repeat bit for bit on one processor, and one for each worker is
	// what there is.
	k.cmd.Env = append(os.Environ(), "GOMAXPROCS=1")
	k.cmd.Stdout, k.cmd.Stderr = k.stderr, k.stderr
	k.cmd.ExtraFiles = []*os.File{w}
	// ^C is for the sweep, which ends its workers: a row that it meets has not failed.
	k.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	k.cmd.WaitDelay = time.Second
	if k.in, err = k.cmd.StdinPipe(); err != nil {
		r.Close()
		return nil, err
	}
	if err := k.cmd.Start(); err != nil {
		r.Close()
		return nil, fmt.Errorf("worker: %w", err)
	}
	go k.read(r)
	_ = k.send(h) // if it has died, the first row tells
	return k, nil
}

// read passes replies on until the process has ended.
func (k *worker) read(r *os.File) {
	in := bufio.NewReader(r)
	for {
		b, err := in.ReadBytes('\n')
		if err != nil {
			break
		}
		var a reply
		if json.Unmarshal(b, &a) != nil {
			break
		}
		k.replies <- a
	}
	r.Close()
	_ = k.cmd.Process.Kill() // it may have closed its descriptor only
	k.waited = k.cmd.Wait()
	close(k.replies)
}

// send writes one message.
func (k *worker) send(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	_, err = k.in.Write(append(b, '\n'))
	return err
}

// end ends the process, whatever it does.
func (k *worker) end() {
	_ = k.cmd.Process.Kill()
	k.in.Close()
	for range k.replies { // until it is closed
	}
}

// crew is what keeps one processor busy: a worker process, and a new one after each that
// ended.
type crew struct {
	argv    []string
	hello   hello
	limit   time.Duration // of a row; 0: none
	perProc int           // rows that a process runs; 0: all
	k       *worker
	served  int
}

// row runs one row. An error is the sweep's: the row could not be tried, or ctx ended.
func (c *crew) row(ctx context.Context, q request) (Row, error) {
	if c.k != nil && c.perProc > 0 && c.served >= c.perProc {
		c.close()
	}
	if c.k == nil {
		k, err := startWorker(c.argv, c.hello)
		if err != nil {
			return Row{}, err
		}
		c.k, c.served = k, 0
	}
	c.served++
	c.k.stderr.reset()
	_ = c.k.send(q) // if it has died, its replies end
	var limit <-chan time.Time
	if c.limit > 0 {
		t := time.NewTimer(c.limit)
		defer t.Stop()
		limit = t.C
	}
	select {
	case a, ok := <-c.k.replies:
		if !ok {
			err, out := c.k.waited, c.k.stderr.text()
			c.close()
			if s := signalOf(err); s == syscall.SIGTERM || s == syscall.SIGINT || s == syscall.SIGHUP {
				return Row{}, fmt.Errorf("a worker was ended: %v", s) // somebody ends all of us
			}
			return Row{Index: q.Index, Error: died(err, out), Detail: out}, nil
		}
		if a.Index != q.Index {
			return Row{}, fmt.Errorf("worker: asked for row %d, answered row %d", q.Index, a.Index)
		}
		if a.Panicked {
			c.close()
		}
		return a.Row, nil
	case <-limit:
		c.close()
		return Row{Index: q.Index, Error: fmt.Sprintf("time limit of %v exceeded", c.limit)}, nil
	case <-ctx.Done():
		c.close()
		return Row{}, ctx.Err()
	}
}

// close ends the worker, if there is one.
func (c *crew) close() {
	if c.k != nil {
		c.k.end()
		c.k = nil
	}
}

// signalOf is the signal that ended a process, or 0.
func signalOf(err error) syscall.Signal {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		if w, ok := exit.Sys().(syscall.WaitStatus); ok && w.Signaled() {
			return w.Signal()
		}
	}
	return 0
}

// died says why a worker ended, from what Go's runtime printed if it did.
func died(err error, out string) string {
	for l := range strings.Lines(out) {
		if strings.HasPrefix(l, "panic: ") || strings.HasPrefix(l, "fatal error: ") {
			return noAddresses(strings.TrimSpace(l))
		}
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return "the worker ended: " + exit.String()
	}
	return "the worker ended"
}

var address = regexp.MustCompile(`0x[0-9a-f]{6,}`)

// noAddresses takes from a message what differs from run to run.
func noAddresses(s string) string { return address.ReplaceAllString(s, "0x...") }

// head keeps the first bytes of what is written to it: where a crash is explained.
type head struct {
	mu sync.Mutex
	b  bytes.Buffer
}

// maxHead is how many bytes a head keeps.
const maxHead = 16 << 10

// Write never fails.
func (h *head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.b.Write(p[:min(len(p), maxHead-h.b.Len())])
	return len(p), nil
}

func (h *head) reset() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.b.Reset()
}

func (h *head) text() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.b.String()
}

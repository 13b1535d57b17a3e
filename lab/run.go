package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/alptrace/alptrace/lab/topo"
	"github.com/alptrace/alptrace/stack/tcp/alptcp"
)

// checkPrograms finds what would keep a program from being started.
func (l *Lab) checkPrograms() error {
	var errs topo.Errors
	fail := func(p topo.Program, format string, args ...any) {
		errs = append(errs, &topo.Error{Pos: p.Pos, Msg: fmt.Sprintf(format, args...)})
	}
	for _, h := range l.Topo.Hosts {
		if _, err := alptcp.Parse(cmp.Or(h.TCP, "gvisor")); err != nil {
			errs = append(errs, &topo.Error{Pos: h.TCPPos, Msg: fmt.Sprintf("tcp: %v", err)})
		}
		for _, p := range h.Run {
			if has := cmp.Or(h.TCP, "gvisor"); p.TCP != "" && p.TCP != has {
				fail(p, "tcp %q: all programs of a host have its TCP, which is %q", p.TCP, has)
			}
			dir := l.dir(p)
			if st, err := os.Stat(dir); err != nil || !st.IsDir() {
				fail(p, "dir %q: no such folder", dir)
				continue
			}
			name := p.Argv[0]
			if strings.Contains(name, "/") && !filepath.IsAbs(name) {
				name = filepath.Join(dir, name)
			}
			if _, err := exec.LookPath(name); err != nil {
				var e *exec.Error
				if errors.As(err, &e) {
					err = e.Err
				}
				fail(p, "%q: %v", p.Argv[0], err)
			}
		}
	}
	if len(errs) > 0 {
		return errs
	}
	return nil
}

// Failure is a program that did not end well.
type Failure struct {
	Host, Program string
	Reason        string
}

// Failures is the error of a run in which programs failed.
type Failures []Failure

// Error has a line for each.
func (f Failures) Error() string {
	var l []string
	for _, x := range f {
		l = append(l, fmt.Sprintf("%s: %s: %s", x.Host, x.Program, x.Reason))
	}
	return strings.Join(l, "\n")
}

// ErrInterrupted is the error of a run that ctx ended.
var ErrInterrupted = errors.New("interrupted")

// Run starts the programs of the lab file, each in its time, and waits until all
// but those in the background are done, until the lab's duration is over, or until
// ctx is done; without any programs, or with background ones only, it goes on.
// Then all are ended. What was sent before is delivered first. The error is
// Failures, or ErrInterrupted.
func (l *Lab) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	if l.Topo.Duration > 0 {
		t := time.AfterFunc(l.Topo.Duration, func() { cancel(context.DeadlineExceeded) })
		defer t.Stop()
	}
	var foreground, all sync.WaitGroup
	serving := true
	// All are known before the first of them asks for another.
	var programs []*Program
	for _, h := range l.Hosts {
		for _, spec := range h.Node.Run {
			programs = append(programs, l.add(h, spec))
			if !spec.Background {
				foreground.Add(1)
				serving = false
			}
		}
	}
	for _, p := range programs {
		all.Go(func() {
			l.live(ctx, p)
			if !p.Spec.Background {
				foreground.Done()
			}
		})
	}
	var done chan struct{} // nil: never
	if !serving {
		done = make(chan struct{})
		go func() { foreground.Wait(); close(done) }()
	}
	select {
	case <-done:
		l.resume()
		l.drain(ctx)
	case <-ctx.Done():
	}
	err := context.Cause(ctx)
	cancel(nil)
	l.endPrograms(false)
	all.Wait()
	if f := l.failures(); len(f) > 0 {
		return f
	}
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return ErrInterrupted
	}
	return nil
}

// live is a program's life.
func (l *Lab) live(ctx context.Context, p *Program) {
	err := l.await(ctx, p)
	if err == nil {
		err = l.start(p)
	} else if ctx.Err() != nil { // it is not its fault
		p.finish(Ended)
		return
	}
	if err != nil {
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		p.finish(Failed)
		l.say(p, "%v", err)
		return
	}
	if ctx.Err() != nil { // the end came while it was started
		p.end(time.Now().Add(endGrace))
	}
	<-p.done
	if why := p.bad(); why != "" {
		l.say(p, "%s", why)
	}
}

// say puts a line of the lab's own among those of a program.
func (l *Lab) say(p *Program, format string, args ...any) {
	l.output.line(p.Host.Node.Name, label(p.Host.Node, p.Spec.Name), fmt.Appendf(nil, "alplab: "+format, args...))
}

// How often it is looked whether a port is served.
const lookEvery = 5 * time.Millisecond

// await waits for a program's start, and for its port.
func (l *Lab) await(ctx context.Context, p *Program) error {
	if err := sleep(ctx, p.Spec.Start); err != nil {
		return err
	}
	for w := p.Spec.After; w != nil; {
		listens, may := l.listens(w)
		if listens {
			return nil
		}
		if !may {
			return fmt.Errorf("nothing serves %s:%d, and no program of %s runs", w.Host.Name, w.Port, w.Host.Name)
		}
		if err := sleep(ctx, lookEvery); err != nil {
			return err
		}
	}
	return ctx.Err()
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// listens tells whether a port is served, and whether it may yet be.
func (l *Lab) listens(w *topo.Wait) (listens, may bool) {
	for _, p := range l.Programs() {
		if p.Host.Node != w.Host {
			continue
		}
		state, _, _, _ := p.Snapshot()
		may = may || state == Waiting || state == Running
		if t := p.Tracer(); state == Running && t != nil && t.Listens(w.Port) {
			return true, true
		}
	}
	return false, may
}

// drainLimit bounds how long the lab goes on for what was sent but not delivered.
const drainLimit = 10 * time.Second

// drain waits until what programs that have ended had sent is delivered.
func (l *Lab) drain(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, drainLimit)
	defer cancel()
	for _, p := range l.Programs() {
		if state, _, _, _ := p.Snapshot(); state == Ended {
			if t := p.Tracer(); t != nil {
				t.Drain(ctx)
			}
			p.Host.Engine.Drain(ctx)
		}
	}
}

// endPrograms ends what runs, exec's as well if it says so.
func (l *Lab) endPrograms(exec bool) {
	at := time.Now().Add(endGrace)
	var wg sync.WaitGroup
	for _, p := range l.Programs() {
		if exec || !p.Exec {
			wg.Go(func() { p.end(at) })
		}
	}
	wg.Wait()
}

// failures are the programs that did not end well.
func (l *Lab) failures() Failures {
	var f Failures
	for _, p := range l.Programs() {
		if why := p.bad(); why != "" && !p.Exec {
			f = append(f, Failure{p.Host.Node.Name, p.Spec.Name, why})
		}
	}
	return f
}

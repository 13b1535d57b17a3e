package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/lab/topo"
	"github.com/alptrace/alptrace/tracer"
)

// State is what a program does.
type State string

// The states.
const (
	Waiting State = "waiting" // for its start, or a port
	Running State = "running"
	Ended   State = "ended" // it and all its descendants; see Status
	Failed  State = "failed"
)

// Program is a program of a host.
type Program struct {
	Host *Host
	Spec topo.Program
	Exec bool // it was started by alplab exec

	done chan struct{} // closed when it, its descendants and its output are done

	mu     sync.Mutex
	state  State
	pid    int
	front  *os.Process // nil with exec
	conn   *conn
	tracer *tracer.Tracer
	status unix.WaitStatus
	ended  bool // by its own end status is known
	ending bool // by the lab's will
	err    error
	code   int // what a shell says of err, 0 if there is no such thing
}

// Snapshot is a program's state now; pid is 0 before it runs.
func (p *Program) Snapshot() (state State, pid int, status unix.WaitStatus, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state, p.pid, p.status, p.err
}

// Tracer is what serves the program's sockets; nil before it runs.
func (p *Program) Tracer() *tracer.Tracer {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tracer
}

// bad says what there is to complain about after the end; "" is nothing.
func (p *Program) bad() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.err != nil:
		return p.err.Error()
	case p.ending || !p.ended:
		return ""
	case p.status.Signaled():
		return "killed by " + unix.SignalName(p.status.Signal())
	case p.status.ExitStatus() != 0:
		return fmt.Sprintf("exit status %d", p.status.ExitStatus())
	}
	return ""
}

// add makes a program known to the lab.
func (l *Lab) add(h *Host, spec topo.Program) *Program {
	p := &Program{Host: h, Spec: spec, state: Waiting, done: make(chan struct{})}
	l.mu.Lock()
	l.programs = append(l.programs, p)
	l.mu.Unlock()
	return p
}

// start runs the program under a front, and returns when it runs.
func (l *Lab) start(p *Program) error {
	cmd := &exec.Cmd{
		Args: append([]string{"alplab"}, p.Spec.Argv...),
		Dir:  l.dir(p.Spec),
		Env:  append(os.Environ(), p.Spec.Env...),
		// ^C is for the lab, which ends its programs itself.
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
	}
	piped, err := l.plumb(p, cmd)
	if err != nil {
		return err
	}
	return l.startFront(p, cmd, piped.Wait)
}

// startFront runs cmd as the program's front, and returns when the program runs.
// It closes the files that cmd is given. At the end, or if that does not succeed,
// after is called.
func (l *Lab) startFront(p *Program, cmd *exec.Cmd, after func()) error {
	c, err := l.fork(p, cmd)
	for _, f := range []any{cmd.Stdin, cmd.Stdout, cmd.Stderr} {
		if f, ok := f.(*os.File); ok {
			f.Close()
		}
	}
	if err != nil {
		after()
		return err
	}
	ended := func() {
		_ = cmd.Wait()
		after()
	}
	if err = l.serve(p, c, ended); err != nil {
		ended()
	}
	return err
}

// fork starts the front, and returns the connection with it.
func (l *Lab) fork(p *Program, cmd *exec.Cmd) (*conn, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	ends, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	theirs := os.NewFile(uintptr(ends[1]), "front")
	defer theirs.Close()
	c, err := connOf(ends[0])
	if err != nil {
		return nil, err
	}
	cmd.Path = exe
	cmd.Env = append(cmd.Env, frontEnv+"=3")
	cmd.ExtraFiles = []*os.File{theirs}
	if err := cmd.Start(); err != nil {
		c.Close()
		return nil, fmt.Errorf("in %s: %w", cmd.Dir, err)
	}
	p.mu.Lock()
	p.front = cmd.Process
	p.mu.Unlock()
	return c, nil
}

// dir is where the program is started.
func (l *Lab) dir(s topo.Program) string {
	beside := filepath.Dir(l.Topo.File)
	if filepath.IsAbs(s.Dir) {
		return s.Dir
	}
	return filepath.Join(beside, s.Dir)
}

// plumb gives the program's output to its log and to the lab's. The group is
// done when all of it has been read.
func (l *Lab) plumb(p *Program, cmd *exec.Cmd) (*sync.WaitGroup, error) {
	log, err := os.Create(filepath.Join(l.Dir, p.Host.Node.Name+"-"+p.Spec.Name+".log"))
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for range 2 {
		r, w, err := os.Pipe()
		if err != nil {
			log.Close()
			for _, f := range files {
				f.Close()
			}
			return nil, err
		}
		files = append(files, r, w)
	}
	cmd.Stdout, cmd.Stderr = files[1], files[3]
	shared := &lockedWriter{w: log}
	var wg, out sync.WaitGroup
	name := label(p.Host.Node, p.Spec.Name)
	for _, r := range []*os.File{files[0], files[2]} {
		out.Add(1)
		go l.output.pipe(r, shared, p.Host.Node.Name, name, out.Done)
	}
	wg.Add(1)
	go func() { out.Wait(); log.Close(); wg.Done() }()
	return &wg, nil
}

// lockedWriter is a writer for several goroutines.
type lockedWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (w *lockedWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.w.Write(b)
}

// serve takes the program's listener from its front and serves its sockets. It
// returns when the program runs, or cannot; after the program's end, after is
// called.
func (l *Lab) serve(p *Program, c *conn, after func()) error {
	var m frontMessage
	fd := -1
	err := c.receive(&m)
	if err == nil && m.Error == "" {
		fd, err = c.takeFD()
	}
	switch {
	case m.Error != "":
		err = errors.New(m.Error)
	case errors.Is(err, io.EOF):
		err = errors.New("it could not be started")
	}
	if err != nil {
		p.mu.Lock()
		p.err, p.code = err, m.Code
		p.mu.Unlock()
		c.Close()
		return err
	}
	t, err := tracer.New(tracer.Config{
		Listener: fd, Engine: p.Host.Engine, Log: l.log, Watch: l.watch, Owners: p.Host.owners, Observer: l.observer(p), Redirect: p.Host.names.redirect,
		Warn: func(line string) {
			l.output.line(p.Host.Node.Name, label(p.Host.Node, p.Spec.Name), []byte("alplab: "+line))
		},
	})
	if err != nil {
		unix.Close(fd)
		c.Close()
		return err
	}
	p.mu.Lock()
	p.tracer, p.conn, p.pid, p.state = t, c, m.Pid, Running
	p.mu.Unlock()
	go func() {
		if err := t.Serve(); err != nil {
			l.log.Error("the program is not served any more", "host", p.Host.Node.Name, "program", p.Spec.Name, "err", err)
			c.Close() // ends the front, and so the program
		}
		l.release(t)
	}()
	go func() {
		p.listen(c)
		c.Close()
		after()
		p.finish(Ended)
	}()
	if err := c.send(labMessage{Go: true}); err != nil {
		l.log.Debug("front has ended", "err", err)
	}
	return nil
}

// orphansLimit bounds how long sockets go on whose program has ended: about as long
// as a kernel's orphaned connections (tcp(7), tcp_orphan_retries).
const orphansLimit = 100 * time.Second

// release frees what a tracer holds when the last socket of its program is gone.
func (l *Lab) release(t *tracer.Tracer) {
	ctx, cancel := context.WithTimeout(context.Background(), orphansLimit)
	defer cancel()
	t.Drain(ctx)
	if !t.Close() {
		l.log.Warn("sockets are left of a program that has ended")
	}
}

// listen hears what the front says until it ends.
func (p *Program) listen(c *conn) {
	for {
		var m frontMessage
		if err := c.receive(&m); err != nil {
			return
		}
		p.mu.Lock()
		switch {
		case m.Error != "":
			p.err = errors.New(m.Error)
		case m.Ended:
			p.status, p.ended = unix.WaitStatus(m.Status), true
		}
		p.mu.Unlock()
	}
}

// finish makes the end known.
func (p *Program) finish(s State) {
	p.mu.Lock()
	p.state = s
	if p.err != nil {
		p.state = Failed
	}
	p.mu.Unlock()
	close(p.done)
}

// How long a program may take to end when it is asked to.
const endGrace = 3 * time.Second

// end ends the program: by SIGTERM, and after a while by its front's end, which
// kills all of its descendants.
func (p *Program) end(at time.Time) {
	p.mu.Lock()
	running, front, c, pid := p.state == Running, p.front, p.conn, p.pid
	p.ending = p.ending || running
	p.mu.Unlock()
	if !running {
		return
	}
	if front != nil {
		_ = front.Signal(unix.SIGTERM)
	} else {
		_ = unix.Kill(pid, unix.SIGTERM)
	}
	t := time.NewTimer(time.Until(at))
	defer t.Stop()
	select {
	case <-p.done:
	case <-t.C:
		c.Close()
		<-p.done
	}
}

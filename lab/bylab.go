package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/tracer/launch"
)

// A lab can look into the programs that descend from it. Into others it can where
// Yama's ptrace_scope is 0 (or it has CAP_SYS_PTRACE); elsewhere exec has the lab
// start the program, with the descriptors of the caller, to whom it is then no
// child: signals are passed on, and the program has no controlling terminal.

// yamaScope is where Linux says who may look into whom (ptrace(2)).
const yamaScope = "/proc/sys/kernel/yama/ptrace_scope"

// restricted reports whether a lab cannot look into what it did not start.
func restricted() bool {
	b, err := os.ReadFile(yamaScope)
	return err == nil && strings.TrimSpace(string(b)) != "0" && os.Geteuid() != 0
}

// signalMessage is a signal that the caller was sent.
type signalMessage struct {
	Signal int `json:"signal"`
}

// byLab starts a program for a caller.
func (c *control) byLab(k *conn, r *request, p *Program) error {
	files := make([]*os.File, 0, 4) // standard input, output, error, folder
	for range cap(files) {
		fd, err := k.takeFD()
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), "of the caller")
		defer f.Close()
		files = append(files, f)
	}
	cmd := &exec.Cmd{
		Args: append([]string{"alplab"}, r.Argv...), Env: r.Env,
		Dir:   fmt.Sprintf("/proc/self/fd/%d", files[3].Fd()),
		Stdin: files[0], Stdout: files[1], Stderr: files[2],
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	err := c.lab.startFront(p, cmd, func() {
		p.mu.Lock()
		m := frontMessage{Ended: p.ended, Status: uint32(p.status)}
		if p.err != nil {
			m.Error, m.Code = p.err.Error(), p.code
		}
		p.mu.Unlock()
		_ = k.send(m) // the caller may be gone
		k.Close()
	})
	if err != nil {
		_ = k.send(frontMessage{Error: err.Error()}) // unless it has been told
		k.Close()
		return err
	}
	go func() {
		var m signalMessage
		for k.receive(&m) == nil {
			_ = p.front.Signal(syscall.Signal(m.Signal))
		}
		p.mu.Lock()
		front := p.conn
		p.mu.Unlock()
		front.Close() // without its caller the program ends
	}()
	return nil
}

// passed are the signals that a caller passes on.
var passed = []os.Signal{unix.SIGHUP, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGUSR1, unix.SIGUSR2, unix.SIGWINCH}

// execByLab is the caller's side.
func execByLab(c *conn, host string, argv []string) (unix.WaitStatus, error) {
	dir, err := os.Open(".")
	if err != nil {
		return 0, err
	}
	defer dir.Close()
	signals := make(chan os.Signal, 16)
	signal.Notify(signals, passed...)
	r := request{Op: "exec", Host: host, Argv: argv, ByLab: true, Env: os.Environ()}
	if err := c.ask(r, 0, 1, 2, int(dir.Fd())); err != nil {
		return 0, err
	}
	go func() {
		for s := range signals {
			if n, ok := s.(syscall.Signal); ok {
				_ = c.send(signalMessage{int(n)})
			}
		}
	}()
	var m frontMessage
	switch err := c.receive(&m); {
	case err != nil:
		return unix.WaitStatus(unix.SIGKILL), nil // with the lab
	case m.Code == 127:
		return 0, &launch.Error{Name: argv[0], Err: unix.ENOENT}
	case m.Code == 126:
		return 0, &launch.Error{Name: argv[0], Err: unix.EACCES}
	case m.Error != "":
		return 0, errors.New(m.Error)
	}
	return unix.WaitStatus(m.Status), nil
}

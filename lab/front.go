package lab

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/tracer/launch"
)

// frontEnv in the environment makes a re-exec of this binary a front: it is the
// number of the descriptor of the connection with the lab.
const frontEnv = "ALPLAB_FRONT"

func init() {
	v, ok := os.LookupEnv(frontEnv)
	if !ok {
		return
	}
	os.Exit(front(v))
}

// frontMessage is what a front says.
type frontMessage struct {
	Pid    int    `json:"pid,omitempty"`    // of the program, with its listener
	Ended  bool   `json:"ended,omitempty"`  // the program's process has
	Status uint32 `json:"status,omitempty"` // its wait status
	Error  string `json:"error,omitempty"`  // it could not be started
	Code   int    `json:"code,omitempty"`   // as the shell's exit status
}

// labMessage is what the lab answers.
type labMessage struct {
	Go    bool   `json:"go,omitempty"`
	Error string `json:"error,omitempty"`
}

// front is the whole life of a front: it runs the program that its own arguments
// are.
func front(v string) int {
	fd, err := strconv.Atoi(v)
	if err != nil {
		return 2
	}
	unix.CloseOnExec(fd)
	c, err := connOf(fd)
	if err != nil {
		return 2
	}
	env := os.Environ()
	for i, kv := range env {
		if strings.HasPrefix(kv, frontEnv+"=") {
			env = append(env[:i], env[i+1:]...)
			break
		}
	}
	ws, err := run(c, os.Args[1:], env)
	if err != nil {
		var le *launch.Error
		code := 125
		if errors.As(err, &le) {
			code = le.ExitCode()
		}
		_ = c.send(frontMessage{Error: err.Error(), Code: code})
		return code
	}
	launch.ExitLike(ws)
	return 0
}

// run runs a program whose sockets the lab at the other end of c serves, in the
// place of this process. It returns when the program and all its descendants
// have ended; should the lab end before, so does this process.
func run(c *conn, argv, env []string) (unix.WaitStatus, error) {
	p, err := launch.Start(launch.Config{Argv: argv, Env: env})
	if err != nil {
		return 0, err
	}
	fd, err := p.Listener()
	if errors.Is(err, launch.ErrEnded) {
		return p.Wait()
	}
	if err != nil {
		return 0, err
	}
	err = c.send(frontMessage{Pid: p.Pid()}, fd)
	_ = unix.Close(fd)
	if err != nil {
		return 0, fmt.Errorf("the lab has ended: %w", err)
	}
	var m labMessage
	if err := c.receive(&m); err != nil || !m.Go {
		return 0, errors.New(orElse(m.Error, "the lab has ended"))
	}
	over := make(chan struct{})
	defer close(over)
	go func() {
		var m labMessage
		_ = c.receive(&m) // nothing more is said
		select {
		case <-over:
		default:
			os.Exit(128 + int(unix.SIGKILL))
		}
	}()
	if err := p.Run(); err != nil && !errors.Is(err, launch.ErrEnded) {
		return 0, err
	}
	ws, err := p.Wait()
	if err != nil {
		return 0, err
	}
	_ = c.send(frontMessage{Ended: true, Status: uint32(ws)})
	<-p.Done()
	return ws, nil
}

func orElse(s, otherwise string) string {
	if s != "" {
		return s
	}
	return otherwise
}

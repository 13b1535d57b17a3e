package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// RunningLabs are the names of the user's running labs. dir is as Options.Runtime.
func RunningLabs(dir string) []string {
	files, _ := filepath.Glob(filepath.Join(orElse(dir, RuntimeDir()), "*"+socketSuffix))
	var names []string
	for _, f := range files {
		c, err := net.Dial("unix", f)
		if err != nil {
			continue // it was killed
		}
		c.Close()
		names = append(names, strings.TrimSuffix(filepath.Base(f), socketSuffix))
	}
	return names
}

// dial reaches the lab of a name; without one, the only one that runs.
func dial(dir, name string) (*conn, error) {
	if name == "" {
		switch names := RunningLabs(dir); len(names) {
		case 0:
			return nil, errors.New("no lab is running")
		case 1:
			name = names[0]
		default:
			return nil, fmt.Errorf("several labs are running: say which of %s", strings.Join(names, ", "))
		}
	}
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: filepath.Join(orElse(dir, RuntimeDir()), name+socketSuffix)})
	if err != nil {
		return nil, fmt.Errorf("no lab named %q is running", name)
	}
	if !sameUser(c) {
		c.Close()
		return nil, fmt.Errorf("lab %q belongs to another user", name)
	}
	return &conn{UnixConn: c}, nil
}

// ask sends a request that the lab agrees to, or not.
func (c *conn) ask(r request, fds ...int) error {
	var m labMessage
	err := c.send(r, fds...)
	if err == nil {
		err = c.receive(&m)
	}
	if err == nil && m.Error != "" {
		err = errors.New(m.Error)
	}
	return err
}

// AskStatus asks a running lab for its status. dir is as Options.Runtime; name
// may be "" if there is one lab only.
func AskStatus(dir, name string) (*Status, error) {
	c, err := dial(dir, name)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	s := new(Status)
	if err := c.send(request{Op: "status"}); err != nil {
		return nil, err
	}
	return s, c.receive(s)
}

// Exec runs a program on a host of a running lab, in the place of this process:
// with its descriptors, terminal, folder, environment and signals. It returns
// when the program and all its descendants have ended; if the lab ends before,
// they are killed and this process ends. byLab has the lab start the program, as is
// done in any case where it could not look into it otherwise. dir and name are as
// with [AskStatus].
func Exec(dir, name, host string, argv []string, byLab bool) (unix.WaitStatus, error) {
	c, err := dial(dir, name)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	if byLab || restricted() {
		return execByLab(c, host, argv)
	}
	if err := c.ask(request{Op: "exec", Host: host, Argv: argv}); err != nil {
		return 0, err
	}
	return run(c, argv, os.Environ())
}

// Pcap writes what passes an interface of a running lab to w, until the lab or w
// ends, or ctx is done. what is HOST, HOST:ethN or the name of a link; dir and name are as with
// [AskStatus].
func Pcap(ctx context.Context, dir, name, what string, w io.Writer) error {
	c, err := dial(dir, name)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.ask(request{Op: "pcap", Host: what, Comment: "alplab pcap " + what}); err != nil {
		return err
	}
	// The lab then sends what it has and closes.
	defer context.AfterFunc(ctx, func() { _ = c.CloseWrite() })()
	if _, err := w.Write(c.rest()); err != nil {
		return err
	}
	_, err = io.Copy(w, c.UnixConn)
	return err
}

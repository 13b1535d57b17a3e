package lab

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/lab/topo"
)

// RuntimeDir is the folder of the control sockets of a user's labs: alplab in
// XDG_RUNTIME_DIR, or else a folder of the user's own in TMPDIR.
func RuntimeDir() string {
	if d := os.Getenv("XDG_RUNTIME_DIR"); d != "" {
		return filepath.Join(d, "alplab")
	}
	return filepath.Join(os.TempDir(), fmt.Sprintf("alplab-%d", os.Geteuid()))
}

const socketSuffix = ".sock"

// control is the socket by which the other commands reach the lab.
type control struct {
	lab  *Lab
	path string
	ln   *net.UnixListener

	mu    sync.Mutex
	conns map[*conn]bool // of pcap, to be closed with the lab
}

// newControl takes the lab's name; another lab that has it is an error.
func newControl(l *Lab) (*control, error) {
	dir := l.opts.Runtime
	if dir == "" {
		dir = RuntimeDir()
	}
	if err := ownDir(dir); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, l.Topo.Name+socketSuffix)
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("a lab named %q is running", l.Topo.Name)
	}
	_ = os.Remove(path) // of a lab that was killed
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		return nil, fmt.Errorf("control socket: %w", err)
	}
	return &control{lab: l, path: path, ln: ln, conns: map[*conn]bool{}}, nil
}

// ownDir makes a folder that is the user's alone, or finds it to be.
func ownDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	var st unix.Stat_t
	if err := unix.Lstat(dir, &st); err != nil {
		return fmt.Errorf("control socket: %s: %w", dir, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR || int(st.Uid) != os.Geteuid() || st.Mode&0o022 != 0 {
		return fmt.Errorf("control socket: %s is not a folder that only you can write", dir)
	}
	return nil
}

func (c *control) close() {
	_ = c.ln.Close() // removes the socket
	c.mu.Lock()
	defer c.mu.Unlock()
	for k := range c.conns {
		_ = k.CloseRead()
	}
}

// request is what a command asks for.
type request struct {
	Op      string   `json:"op"` // status, exec, pcap
	Host    string   `json:"host,omitempty"`
	Argv    []string `json:"argv,omitempty"`
	Comment string   `json:"comment,omitempty"`
	// ByLab has the lab start the program, with the standard descriptors and
	// the folder that come with the request, and Env.
	ByLab bool     `json:"by_lab,omitempty"`
	Env   []string `json:"env,omitempty"`
}

func (c *control) serve() {
	for {
		u, err := c.ln.AcceptUnix()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		go c.answer(&conn{UnixConn: u})
	}
}

// answer serves one command.
func (c *control) answer(k *conn) {
	var r request
	if !sameUser(k.UnixConn) || k.receive(&r) != nil {
		k.Close()
		return
	}
	switch r.Op {
	case "status":
		_ = k.send(c.lab.Status())
		k.Close()
	case "exec":
		c.exec(k, &r)
	case "pcap":
		c.pcap(k, &r)
	default:
		_ = k.send(labMessage{Error: fmt.Sprintf("%q: no such request", r.Op)})
		k.Close()
	}
}

// sameUser reports whether the other side has our effective user.
func sameUser(u *net.UnixConn) bool {
	raw, err := u.SyscallConn()
	if err != nil {
		return false
	}
	same := false
	err = raw.Control(func(fd uintptr) {
		cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
		same = err == nil && int(cred.Uid) == os.Geteuid()
	})
	return err == nil && same
}

// exec serves a program that the command starts itself, or has the lab start.
func (c *control) exec(k *conn, r *request) {
	l := c.lab
	h := l.Host(r.Host)
	switch {
	case h == nil || h.names == nil:
		_ = k.send(labMessage{Error: fmt.Sprintf("lab %s has no host %q; it has %s", l.Topo.Name, r.Host, hostNames(l.Topo))})
		k.Close()
		return
	case len(r.Argv) == 0:
		k.Close()
		return
	}
	if k.send(labMessage{Go: true}) != nil {
		k.Close()
		return
	}
	p := l.add(h, topo.Program{Name: filepath.Base(r.Argv[0]), Argv: r.Argv})
	p.Exec = true
	var err error
	if r.ByLab {
		err = c.byLab(k, r, p)
	} else {
		err = l.serve(p, k, func() {})
	}
	if err != nil {
		p.mu.Lock()
		p.err = err
		p.mu.Unlock()
		p.finish(Failed)
	}
}

func hostNames(t *topo.Lab) string {
	var l []string
	for _, h := range t.Hosts {
		l = append(l, h.Name)
	}
	return strings.Join(l, ", ")
}

// tapOf finds what is to be captured: an interface as HOST or HOST:ethN, or a
// link, at its first end that is a stack.
func (l *Lab) tapOf(name string) (*topo.Iface, *tap, error) {
	if k := l.Link(name); k != nil {
		for _, i := range k.Topo.Ends {
			if h := l.Host(i.Node.Name); h != nil {
				return i, h.Taps[i.Index], nil
			}
		}
		return nil, nil, fmt.Errorf("link %s is between switches, which capture nothing", name)
	}
	host, eth, _ := strings.Cut(name, ":")
	h := l.Host(host)
	if h == nil {
		return nil, nil, fmt.Errorf("lab %s has no host, router or link %q", l.Topo.Name, name)
	}
	for _, i := range h.Node.Ifaces {
		if eth == "" || eth == i.Name() {
			return i, h.Taps[i.Index], nil
		}
	}
	return nil, nil, fmt.Errorf("%s has no interface %q", host, eth)
}

// pcap sends a capture until the other side has had enough.
func (c *control) pcap(k *conn, r *request) {
	defer k.Close()
	i, t, err := c.lab.tapOf(r.Host)
	if err != nil {
		_ = k.send(labMessage{Error: err.Error()})
		return
	}
	if k.send(labMessage{Go: true}) != nil {
		return
	}
	c.mu.Lock()
	c.conns[k] = true
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.conns, k)
		c.mu.Unlock()
	}()
	w := newSlack(k.UnixConn)
	detach, err := t.attach(w, r.Comment, describe(i))
	if err != nil {
		return
	}
	_, _ = k.Read(make([]byte, 1)) // until it closes, or the lab does
	_ = detach()
	w.close()
}

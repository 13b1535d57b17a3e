package apps

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// sharing is a host whose addresses are shared through rootd, with another
// host on its network: 10.77.0.1 and fd77::1 are the host, 10.77.0.2 and
// fd77::2 the peer.
type sharing struct {
	stack  *scene // the host's, under alptrace --net host, as an ordinary user
	kernel *scene // the host's, on the kernel's stack
	root   *scene // the kernel's, as root
	peer   *scene // the other host

	binary, socket, pins, prefix string
	rootd                        *proc
}

// newSharing makes both hosts, and starts rootd.
func newSharing(t *testing.T, programs ...string) *sharing {
	t.Helper()
	onlyAlptrace(t)
	s := newScene(t, programs...)
	if s.ns == nil {
		t.Skip("needs root")
	}
	other := newNetns(t)
	veth(t, "eth0", s.ns, "10.77.0.1/24", other, "10.77.0.2/24")
	if err := s.ns.do(func() error { return up("eth0", "fd77::1/64") }); err != nil {
		t.Fatal(err)
	}
	if err := other.do(func() error { return up("eth0", "fd77::2/64") }); err != nil {
		t.Fatal(err)
	}
	h := &sharing{prefix: "alt"}
	// The daemon's binary, socket and pins are root's, in a directory that
	// others may enter.
	dir, err := os.MkdirTemp("", "alptrace-rootd-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	h.binary, h.socket, h.pins = filepath.Join(dir, "rootd"), filepath.Join(dir, "rootd.sock"), filepath.Join(dir, "bpf")
	if given := os.Getenv("ALPTRACE_ROOTD"); given != "" {
		h.binary = given
	} else {
		build := exec.Command("go", "build", "-buildvcs=false", "-o", h.binary, "github.com/alptrace/alptrace/cmd/rootd")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build rootd: %v\n%s", err, out)
		}
	}
	if err := os.Mkdir(h.pins, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := unix.Mount("bpf", h.pins, "bpf", 0, ""); err != nil {
		t.Fatalf("mount a BPF file system: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(h.pins, unix.MNT_DETACH); err != nil {
			t.Errorf("unmount: %v", err)
		}
	})
	h.stack = s.at(s.ns, "--net", "host", "--rootd", h.socket)
	h.kernel = s.at(s.ns)
	h.root = s.at(s.ns).kernel()
	h.peer = s.at(other)
	h.start()
	t.Cleanup(func() {
		if h.rootd.res.state == nil {
			h.stop()
		}
		if t.Failed() {
			t.Logf("rootd:\n%s", tail(h.rootd.err.String()))
		}
	})
	return h
}

// start starts rootd and waits until it gives leases.
func (h *sharing) start() {
	h.root.t.Helper()
	h.rootd = h.root.start(false, h.binary, "--socket", h.socket, "--pins", h.pins+"/alptrace", "--prefix", h.prefix,
		"--table", "alptrace_test")
	h.await()
}

func (h *sharing) await() {
	h.root.t.Helper()
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("unixpacket", h.socket)
		if err == nil {
			c.Close()
			return
		}
		if time.Now().After(end) {
			h.root.t.Fatalf("rootd does not listen: %v\n%s", err, h.rootd.err)
		}
	}
}

// stop ends rootd for good; nothing of it is left.
func (h *sharing) stop() {
	h.root.t.Helper()
	_ = h.rootd.Process.Signal(unix.SIGTERM)
	r := h.rootd.wait()
	if r.code() != 0 {
		h.root.t.Errorf("rootd ended with %d\n%s", r.code(), tail(r.err))
	}
	if left := h.devices(); len(left) > 0 {
		h.root.t.Errorf("devices are left: %v", left)
	}
	if left, _ := filepath.Glob(h.pins + "/*/*"); len(left) > 0 {
		h.root.t.Errorf("pins are left: %v", left)
	}
}

// devices are the names of rootd's devices.
func (h *sharing) devices() (names []string) {
	h.root.t.Helper()
	err := h.root.ns.do(func() error {
		links, err := netlink.LinkList()
		for _, l := range links {
			if n := l.Attrs().Name; strings.HasPrefix(n, h.prefix) {
				names = append(names, n)
			}
		}
		return err
	})
	if err != nil {
		h.root.t.Fatal(err)
	}
	return names
}

// leases are the devices of leases.
func (h *sharing) leases() int {
	n := 0
	for _, d := range h.devices() {
		if strings.Trim(strings.TrimPrefix(d, h.prefix), "0123456789") == "" {
			n++
		}
	}
	return n
}

// ready waits until the server says so.
func (p *proc) ready() *proc {
	p.s.t.Helper()
	eventually(p.s.t, 10*time.Second, "a server is ready", func() bool { return strings.Contains(p.out.String(), "ready") })
	return p
}

// end ends the command's process group, for those that serve until then.
func (p *proc) end(sig syscall.Signal) {
	_ = syscall.Kill(-p.Process.Pid, sig)
	p.wait()
}

// serve starts a web server with the scene's directory www on a port.
func (s *scene) serve(traced bool, port string) *proc {
	s.t.Helper()
	return s.start(traced, s.script(`echo ready; exec busybox httpd -f -p `+port+` -h "$D/www"`)...).ready()
}

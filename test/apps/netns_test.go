package apps

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// netns is a network namespace of a test's own, lo up, with nothing else in it.
type netns struct {
	f     *os.File
	inode uint64
}

// newNetns makes a network namespace. It needs CAP_SYS_ADMIN.
func newNetns(t *testing.T) *netns {
	t.Helper()
	type made struct {
		ns  *netns
		err error
	}
	c := make(chan made)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread dies with the goroutine
		ns, err := unshareNet()
		c <- made{ns, err}
	}()
	m := <-c
	if m.err != nil {
		t.Fatalf("make a network namespace: %v", m.err)
	}
	t.Cleanup(func() {
		m.ns.sweep(t)
		m.ns.f.Close()
	})
	return m.ns
}

// unshareNet moves the calling thread to a new network namespace.
func unshareNet() (*netns, error) {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return nil, fmt.Errorf("unshare: %w", err)
	}
	f, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, err
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return nil, err
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return nil, fmt.Errorf("find lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return nil, fmt.Errorf("set lo up: %w", err)
	}
	// Any user may open ICMP echo sockets, as on most hosts.
	if err := os.WriteFile("/proc/sys/net/ipv4/ping_group_range", []byte("0 2147483647"), 0); err != nil {
		return nil, err
	}
	return &netns{f, st.Ino}, nil
}

// do runs fn on a thread that is in the namespace. A nil namespace is the
// caller's own.
func (n *netns) do(fn func() error) error {
	if n == nil {
		return fn()
	}
	errc := make(chan error)
	go func() {
		runtime.LockOSThread()
		home, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			errc <- err
			return
		}
		defer home.Close()
		if err := unix.Setns(int(n.f.Fd()), unix.CLONE_NEWNET); err != nil {
			errc <- fmt.Errorf("enter the namespace: %w", err)
			return
		}
		err = fn()
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		errc <- err
	}()
	return <-errc
}

// start starts a command in the namespace.
func (n *netns) start(cmd *exec.Cmd) error {
	return n.do(cmd.Start)
}

// processes lists the processes that are in the namespace (zombies are not).
func (n *netns) processes() map[int]string {
	found := map[int]string{}
	links, _ := filepath.Glob("/proc/[0-9]*/ns/net")
	want := fmt.Sprintf("net:[%d]", n.inode)
	for _, l := range links {
		if got, err := os.Readlink(l); err != nil || got != want {
			continue
		}
		dir := filepath.Dir(filepath.Dir(l))
		pid, _ := strconv.Atoi(filepath.Base(dir))
		if pid == os.Getpid() { // one of our threads passing through
			continue
		}
		cmdline, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		found[pid] = strings.TrimSpace(strings.ReplaceAll(string(cmdline), "\x00", " "))
	}
	return found
}

// emptied waits until no process is in the namespace; it returns those that
// are there after d.
func (n *netns) emptied(d time.Duration) map[int]string {
	for end := time.Now().Add(d); ; time.Sleep(20 * time.Millisecond) {
		left := n.processes()
		if len(left) == 0 || time.Now().After(end) {
			return left
		}
	}
}

// sweep fails the test if processes are left in the namespace, and ends them.
func (n *netns) sweep(t *testing.T) {
	left := n.emptied(3 * time.Second)
	if len(left) == 0 {
		return
	}
	t.Errorf("processes left behind: %v", left)
	for range 10 {
		for pid := range n.processes() {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		if len(n.emptied(time.Second)) == 0 {
			return
		}
	}
	t.Errorf("processes that SIGKILL does not end: %v", n.processes())
}

// veth joins two namespaces by a pair of devices of the given name, one in
// each, up, with the given addresses.
func veth(t *testing.T, name string, a *netns, addrA string, b *netns, addrB string) {
	t.Helper()
	err := a.do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name = name
		pair := &netlink.Veth{LinkAttrs: attrs, PeerName: name, PeerNamespace: netlink.NsFd(int(b.f.Fd()))}
		if err := netlink.LinkAdd(pair); err != nil {
			return fmt.Errorf("add veth: %w", err)
		}
		return up(name, addrA)
	})
	if err == nil {
		err = b.do(func() error { return up(name, addrB) })
	}
	if err != nil {
		t.Fatalf("veth: %v", err)
	}
}

// up gives the device an address and sets it up, in the calling thread's namespace.
func up(name, addr string) error {
	dev, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	a, err := netlink.ParseAddr(addr)
	if err != nil {
		return err
	}
	if a.IP.To4() == nil {
		a.Flags |= unix.IFA_F_NODAD
	}
	if err := netlink.AddrAdd(dev, a); err != nil {
		return fmt.Errorf("add %s to %s: %w", addr, name, err)
	}
	return netlink.LinkSetUp(dev)
}

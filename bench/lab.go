package main

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Addresses of the laboratory. The kernel's own stack reaches the peer over a
// veth pair, alptrace's over a TUN device: one hop each.
const (
	vethSubject = "10.90.0.1" // the subject's namespace, kernel stack
	vethPeer    = "10.90.0.2" // the peer's namespace
	tunStack    = "10.91.0.1" // alptrace's stack
	tunPeer     = "10.91.0.2" // the kernel's end of the TUN device, in the peer's namespace
	tunName     = "albtun"
	tunQueue    = 20000 // packets
	prefix      = 24
)

// lab is two network namespaces without a name, which the kernel takes down
// with everything in them when the benchmark and its children have ended,
// however they end.
type lab struct {
	subject netns.NsHandle // programs under test, when they use the kernel's stack
	peer    netns.NsHandle // the other end of every measurement, and the TUN device
}

// newLab makes the namespaces, the veth pair between them and the TUN device.
// It needs CAP_NET_ADMIN and CAP_SYS_ADMIN.
func newLab() (*lab, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := netns.Get()
	if err != nil {
		return nil, fmt.Errorf("open this network namespace: %w", err)
	}
	defer home.Close()
	defer func() { _ = netns.Set(home) }()

	l := &lab{}
	if l.peer, err = netns.New(); err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	if err := tune(); err != nil {
		return nil, err
	}
	if err := makeTUN(); err != nil {
		return nil, err
	}
	if l.subject, err = netns.New(); err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	if err := tune(); err != nil {
		return nil, err
	}
	pair := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: "albveth"},
		PeerName:      "albveth",
		PeerNamespace: netlink.NsFd(int(l.peer)),
	}
	if err := netlink.LinkAdd(pair); err != nil {
		return nil, fmt.Errorf("make a veth pair: %w", err)
	}
	if err := addAddress("albveth", vethSubject); err != nil {
		return nil, err
	}
	if err := netns.Set(l.peer); err != nil {
		return nil, fmt.Errorf("enter the peer's namespace: %w", err)
	}
	if err := addAddress("albveth", vethPeer); err != nil {
		return nil, err
	}
	return l, addAddress(tunName, tunPeer)
}

// close lets go of the namespaces.
func (l *lab) close() {
	_ = l.subject.Close()
	_ = l.peer.Close()
}

// tune brings lo up in the current namespace and widens the range of ephemeral
// ports, so that connections in TIME_WAIT do not bound the connection rate.
func tune() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find lo: %w", err)
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("bring lo up: %w", err)
	}
	// /proc/sys/net shows the namespace of the thread that opens it.
	const ports = "/proc/sys/net/ipv4/ip_local_port_range"
	if err := os.WriteFile(ports, []byte("10240 65535"), 0o644); err != nil {
		return fmt.Errorf("widen the range of ports: %w", err)
	}
	return nil
}

// makeTUN makes a persistent TUN device in the current namespace.
func makeTUN() error {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open /dev/net/tun: %w", err)
	}
	defer unix.Close(fd)
	req, err := unix.NewIfreq(tunName)
	if err != nil {
		return fmt.Errorf("name the device %s: %w", tunName, err)
	}
	req.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, req); err != nil {
		return fmt.Errorf("make the device %s: %w", tunName, err)
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1); err != nil {
		return fmt.Errorf("keep the device %s: %w", tunName, err)
	}
	// A veth pair has no queue that could drop; the device's is made long enough
	// for the FINs of all connections that the peer holds.
	device, err := netlink.LinkByName(tunName)
	if err != nil {
		return fmt.Errorf("find the device %s: %w", tunName, err)
	}
	if err := netlink.LinkSetTxQLen(device, tunQueue); err != nil {
		return fmt.Errorf("lengthen the queue of %s: %w", tunName, err)
	}
	return nil
}

// addAddress gives a device of the current namespace an address, and brings it up.
func addAddress(device, addr string) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return fmt.Errorf("find %s: %w", device, err)
	}
	a, err := netlink.ParseAddr(fmt.Sprintf("%s/%d", addr, prefix))
	if err != nil {
		return fmt.Errorf("address %s: %w", addr, err)
	}
	if err := netlink.AddrAdd(link, a); err != nil {
		return fmt.Errorf("give %s the address %s: %w", device, addr, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("bring %s up: %w", device, err)
	}
	return nil
}

// within runs f on a thread that is in the namespace ns. A process that f
// starts is born there.
func within(ns netns.NsHandle, f func() error) error {
	done := make(chan error)
	go func() {
		// The thread is not unlocked: it ends with the goroutine rather than
		// run another one in the wrong namespace.
		runtime.LockOSThread()
		if err := netns.Set(ns); err != nil {
			done <- fmt.Errorf("enter a network namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// raiseFiles lets this process and its children open n files, or as many as the
// hard limit allows where even root may not raise that (containers).
func raiseFiles(n uint64) error {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return fmt.Errorf("get the limit on open files: %w", err)
	}
	want := unix.Rlimit{Cur: max(r.Cur, n), Max: max(r.Max, n)}
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &want) == nil {
		return nil
	}
	r.Cur = r.Max
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return fmt.Errorf("raise the limit on open files to %d: %w", r.Max, err)
	}
	return nil
}

// alptraces lists the processes, of pid and its descendants, that run the
// program whose file is exe.
func alptraces(pid int, exe string) []int {
	var found []int
	want, err := os.Stat(exe)
	if err != nil {
		return nil
	}
	for queue := []int{pid}; len(queue) > 0; queue = queue[1:] {
		p := queue[0]
		if got, err := os.Stat(fmt.Sprintf("/proc/%d/exe", p)); err == nil && os.SameFile(want, got) {
			found = append(found, p)
		}
		queue = append(queue, children(p)...)
	}
	return found
}

// children lists the children of a process, whichever thread started them.
func children(pid int) []int {
	var all []int
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, name := range lists {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // the thread has ended
		}
		for _, field := range strings.Fields(string(text)) {
			if p, err := strconv.Atoi(field); err == nil {
				all = append(all, p)
			}
		}
	}
	return all
}

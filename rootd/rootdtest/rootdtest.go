// Package rootdtest runs a rootd server inside a test, without privilege: with
// a datapath and a guard that only keep books. Its dummies are real sockets, so
// ports conflict as they do on the host that the test runs on.
package rootdtest

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/policy"
	"github.com/alptrace/alptrace/rootd"
)

// Datapath is a [rootd.Datapath] on paper.
type Datapath struct {
	mu      sync.Mutex
	failing func(method string) error
	room    int
	next    int
	devices map[int]uint32 // lease by index
	grants  map[rootd.Grant]uint32
	reach   map[uint32][]netip.Prefix
	ends    map[int]int // the far end of each device
}

// NewDatapath makes one.
func NewDatapath() *Datapath {
	return &Datapath{next: 100, devices: map[int]uint32{}, grants: map[rootd.Grant]uint32{},
		reach: map[uint32][]netip.Prefix{}, ends: map[int]int{}}
}

// Fail has calls fail as f says, whose argument is the name of the method.
func (d *Datapath) Fail(f func(method string) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.failing = f
}

// Room limits how many grants there may be; 0 is no limit.
func (d *Datapath) Room(n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.room = n
}

func (d *Datapath) fail(method string) error {
	if d.failing == nil {
		return nil
	}
	return d.failing(method)
}

// NewDevice gives one end of a pair of sockets that keep packet boundaries.
func (d *Datapath) NewDevice(lease uint32, reach []netip.Prefix) (rootd.Device, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fail("NewDevice"); err != nil {
		return rootd.Device{}, err
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return rootd.Device{}, err
	}
	d.next++
	d.devices[d.next], d.ends[d.next], d.reach[lease] = lease, fds[1], reach
	name := fmt.Sprintf("fake%d", d.next)
	return rootd.Device{Name: name, Index: d.next, MTU: 1500, File: os.NewFile(uintptr(fds[0]), name)}, nil
}

// SetReach notes reach.
func (d *Datapath) SetReach(lease uint32, reach []netip.Prefix) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.reach[lease] = reach
	return d.fail("SetReach")
}

// Reach is what was set.
func (d *Datapath) Reach(lease uint32) []netip.Prefix {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.reach[lease]
}

// RemoveDevice closes the far end.
func (d *Datapath) RemoveDevice(index int) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, ok := d.devices[index]; !ok {
		return unix.ENODEV
	}
	_ = unix.Close(d.ends[index])
	delete(d.reach, d.devices[index])
	delete(d.ends, index)
	delete(d.devices, index)
	return d.fail("RemoveDevice")
}

// Add notes grants, while there is room.
func (d *Datapath) Add(lease uint32, ifindex int, gs []rootd.Grant) []error {
	d.mu.Lock()
	defer d.mu.Unlock()
	errs := make([]error, len(gs))
	for i, g := range gs {
		switch owner, ok := d.grants[g]; {
		case d.devices[ifindex] != lease:
			errs[i] = unix.ENODEV
		case ok:
			errs[i] = fmt.Errorf("%v is lease %d's", g, owner)
		case d.room > 0 && len(d.grants) >= d.room:
			errs[i] = unix.E2BIG
		default:
			if errs[i] = d.fail("Add"); errs[i] == nil {
				d.grants[g] = lease
			}
		}
	}
	return errs
}

// Remove forgets grants.
func (d *Datapath) Remove(lease uint32, gs []rootd.Grant) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, g := range gs {
		if d.grants[g] == lease {
			delete(d.grants, g)
		}
	}
}

// Grants lists those of a lease.
func (d *Datapath) Grants(lease uint32) (gs []rootd.Grant) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for g, owner := range d.grants {
		if owner == lease {
			gs = append(gs, g)
		}
	}
	return gs
}

// Len is how many grants there are.
func (d *Datapath) Len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.grants)
}

// Leases maps leases to devices.
func (d *Datapath) Leases() map[uint32]int {
	d.mu.Lock()
	defer d.mu.Unlock()
	out := map[uint32]int{}
	for index, lease := range d.devices {
		out[lease] = index
	}
	return out
}

// Counters are fixed numbers.
func (d *Datapath) Counters(uint32) (rootd.Counters, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return rootd.Counters{RxPackets: 1, RxBytes: 2, TxPackets: 3, TxBytes: 4, Drops: map[string]uint64{"not granted": 5}},
		d.fail("Counters")
}

// Locals are the loopback networks and 192.0.2.1, which no bind will get.
func (d *Datapath) Locals() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128"), netip.MustParsePrefix("192.0.2.1/32")}
}

// Guard is a [rootd.Guard] on paper.
type Guard struct {
	mu     sync.Mutex
	err    error
	grants map[rootd.Grant]bool
}

// NewGuard makes one.
func NewGuard() *Guard { return &Guard{grants: map[rootd.Grant]bool{}} }

// Fail has Add fail with err.
func (g *Guard) Fail(err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.err = err
}

// Add notes grants.
func (g *Guard) Add(gs []rootd.Grant) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.err != nil {
		return g.err
	}
	for _, x := range gs {
		g.grants[x] = true
	}
	return nil
}

// Remove forgets grants.
func (g *Guard) Remove(gs []rootd.Grant) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, x := range gs {
		delete(g.grants, x)
	}
	return nil
}

// Grants lists what is guarded.
func (g *Guard) Grants() []rootd.Grant {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Collect(maps.Keys(g.grants))
}

// Daemon is a running server.
type Daemon struct {
	*rootd.Server
	Datapath *Datapath
	Guard    *Guard
	Socket   string
	Config   rootd.Config

	stop context.CancelFunc
	done chan error
}

// Start runs a server on a socket in a directory of the test, which every user
// may enter, until the test ends. Parts of cfg that are missing are made here; access nil
// is the default policy.
func Start(t testing.TB, cfg rootd.Config, access *policy.Access) *Daemon {
	t.Helper()
	dir, err := os.MkdirTemp("", "rootd") // short: sun_path has 108 bytes
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // for other users, see above
		t.Fatal(err)
	}
	d := &Daemon{Datapath: NewDatapath(), Guard: NewGuard(), Socket: filepath.Join(dir, "s"), Config: cfg}
	if cfg.Datapath == nil {
		d.Config.Datapath = d.Datapath
	}
	if cfg.Guard == nil {
		d.Config.Guard = d.Guard
	}
	if cfg.State == "" {
		d.Config.State = filepath.Join(dir, "state")
	}
	d.Run(t, access)
	t.Cleanup(func() { d.Stop(t) })
	return d
}

// Run starts the server again after Stop, with what the datapath and the guard
// have.
func (d *Daemon) Run(t testing.TB, access *policy.Access) {
	t.Helper()
	if access == nil {
		access = policy.DefaultAccess()
	}
	var err error
	if d.Server, err = rootd.New(d.Config, access); err != nil {
		t.Fatal(err)
	}
	_ = os.Remove(d.Socket)
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: d.Socket, Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(d.Socket, 0o666); err != nil { //nolint:gosec // the policy decides
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	d.stop, d.done = cancel, make(chan error, 1)
	go func() { d.done <- d.Serve(ctx, l) }()
}

// Stop ends the server as a restart does: leases stay in the datapath, but the
// kernel closes the dummies.
func (d *Daemon) Stop(t testing.TB) {
	t.Helper()
	if d.stop == nil {
		return
	}
	d.stop()
	d.stop = nil
	select {
	case err := <-d.done:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the server does not stop")
	}
	d.CloseDummies()
}

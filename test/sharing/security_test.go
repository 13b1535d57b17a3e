package sharing_test

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/rootd/proto"
	"github.com/alptrace/alptrace/test/sharing/hostile/order"
)

const (
	other      = 65533 // a second user, whom the policy gives little
	kernelPort = 6000
	victimPort = 7001
	otherPort  = 9500 // UDP, of the other user's lease

	otherLeases, otherGrants = 3, 40
)

// trial is the host under attack and what became of each attempt.
type trial struct {
	*lab
	program string
	eyes    *eyes
	a, b    *hostile // leases of nobody and of other
	n       int
	rows    []string
}

// hostile is a running hostile client.
type hostile struct {
	t   *testing.T
	cmd *exec.Cmd
	in  *json.Encoder
	out *json.Decoder
}

func (l *trial) hostile(uid uint32) *hostile {
	l.t.Helper()
	h := &hostile{t: l.t, cmd: exec.Command(l.program)}
	h.cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	h.cmd.Dir, h.cmd.Stderr = l.dir, os.Stderr
	in, err := h.cmd.StdinPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	out, err := h.cmd.StdoutPipe()
	if err != nil {
		l.t.Fatal(err)
	}
	h.in, h.out = json.NewEncoder(in), json.NewDecoder(out)
	l.within(l.host, h.cmd.Start)
	l.t.Cleanup(h.kill)
	return h
}

func (h *hostile) kill() {
	_ = h.cmd.Process.Kill()
	_ = h.cmd.Wait()
}

func (h *hostile) do(o order.Order) (a order.Answer) {
	h.t.Helper()
	if err := h.in.Encode(o); err != nil {
		h.t.Fatalf("order %s: %v", o.Op, err)
	}
	if err := h.out.Decode(&a); err != nil {
		h.t.Fatalf("order %s: %v", o.Op, err)
	}
	return a
}

func (h *hostile) send(packets ...[]byte) []syscall.Errno {
	h.t.Helper()
	return h.do(order.Order{Op: order.Send, Packets: packets}).Errnos
}

// grant asks for one item and returns the errno.
func (h *hostile) grant(it proto.Item) syscall.Errno {
	h.t.Helper()
	a := h.do(order.Order{Op: order.Grant, Items: []proto.Item{it}})
	if len(a.Results) != 1 {
		return a.Errno
	}
	return a.Results[0].Errno
}

func (h *hostile) must(errno syscall.Errno) {
	h.t.Helper()
	if errno != 0 {
		h.t.Fatal(errno)
	}
}

var marks = regexp.MustCompile(`(?:forged|honest|before)-\d{5}`)

// eyes sees all packets at the peer and on the host's lo.
type eyes struct {
	mu   sync.Mutex
	seen map[string]bool
	next map[[2]uint16]layers.TCP // the last segment, by ports
}

func (l *lab) watch() *eyes {
	l.t.Helper()
	e := &eyes{seen: map[string]bool{}, next: map[[2]uint16]layers.TCP{}}
	for _, at := range []struct {
		ns  netns.NsHandle
		dev string
	}{{l.peer, peerDev}, {l.host, "lo"}} {
		var f *os.File
		l.within(at.ns, func() (err error) {
			f, err = packetSocket(at.dev)
			return err
		})
		l.t.Cleanup(func() { _ = f.Close() })
		go func() {
			buf := make([]byte, 1<<17)
			for {
				n, err := f.Read(buf)
				if err != nil {
					return
				}
				e.look(buf[:n])
			}
		}()
	}
	return e
}

// packetSocket sees all frames of a device, in and out; it has room for what
// comes while nobody reads.
func packetSocket(dev string) (*os.File, error) {
	i, err := net.InterfaceByName(dev)
	if err != nil {
		return nil, err
	}
	const all = 0x0300 // ETH_P_ALL, in network order
	s, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(s), dev)
	if err := unix.SetsockoptInt(s, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 32<<20); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if err := unix.Bind(s, &unix.SockaddrLinklayer{Protocol: all, Ifindex: i.Index}); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (e *eyes) look(b []byte) {
	e.mu.Lock()
	defer e.mu.Unlock()
	// Marks are where a payload begins: the rest of long ones is not looked at.
	for _, m := range marks.FindAll(b[:min(len(b), 300)], -1) {
		e.seen[string(m)] = true
	}
	const ether = 14
	if len(b) < ether+40 || b[12] != 8 || b[13] != 0 || b[ether+9] != unix.IPPROTO_TCP {
		return
	}
	ihl, total := int(b[ether]&15)*4, int(binary.BigEndian.Uint16(b[ether+2:]))
	t := b[ether+ihl:]
	if len(t) < 20 || t[13]&4 != 0 { // RST
		return
	}
	n := total - ihl - int(t[12]>>4)*4 + int(t[13]&1) + int(t[13]>>1&1) // FIN and SYN count
	e.next[[2]uint16{binary.BigEndian.Uint16(t), binary.BigEndian.Uint16(t[2:])}] = layers.TCP{
		Seq: binary.BigEndian.Uint32(t[4:]) + uint32(n), Ack: binary.BigEndian.Uint32(t[8:]),
	}
}

func (e *eyes) saw(mark string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.seen[mark]
}

func (e *eyes) segment(from, to uint16) layers.TCP {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.next[[2]uint16{from, to}]
}

// eventually waits for f.
func eventually(within time.Duration, f func() bool) bool {
	for end := time.Now().Add(within); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// note records an attempt: whether it failed as it should, how, and whether its
// control showed that success would have been seen.
func (l *trial) note(what string, failed bool, how any, control bool) {
	l.t.Helper()
	if !failed {
		l.t.Errorf("%s: SUCCEEDED (%v)", what, how)
	}
	if !control {
		l.t.Errorf("%s: the control does not show", what)
	}
	verdict := map[bool]string{true: "fails", false: "SUCCEEDS"}[failed]
	seen := map[bool]string{true: "shows", false: "DOES NOT SHOW"}[control]
	l.rows = append(l.rows, fmt.Sprintf("%-66s %-8s control %s  %v", what, verdict, seen, how))
}

// mark is a pair of marks for one attempt.
func (l *trial) mark() (forged, honest string) {
	l.n++
	return fmt.Sprintf("forged-%05d", l.n), fmt.Sprintf("honest-%05d", l.n)
}

// spoof has h send what it may not, then what it may; packets do not overtake,
// so the second has the first come before it.
func (l *trial) spoof(h *hostile, s spoof) {
	l.t.Helper()
	forged, honest := l.mark()
	errnos := h.send(s.make(true, forged)...)
	h.send(s.make(false, honest)...)
	control := eventually(2*time.Second, func() bool { return l.eyes.saw(honest) })
	how := "dropped"
	for _, e := range errnos {
		if e != 0 {
			how = "write: " + e.Error()
		}
	}
	if l.eyes.saw(forged) {
		how = "it came out"
	}
	l.note(s.what, how != "it came out", how, control)
}

func newTrial(t *testing.T) *trial {
	l := &trial{lab: newLab(t)}
	l.program = filepath.Join(l.dir, "hostile")
	build := exec.Command("go", "build", "-o", l.program, "github.com/alptrace/alptrace/test/sharing/hostile")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build hostile: %v\n%s", err, out)
	}
	policy := filepath.Join(l.dir, "policy.toml")
	text := fmt.Sprintf("[[access]]\nusers = [\"%d\"]\nleases = %d\ngrants = %d\nrate = 5000\n", other, otherLeases, otherGrants)
	if err := os.WriteFile(policy, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	l.startRootd("--policy", policy)
	l.eyes = l.watch()
	l.a, l.b = l.hostile(nobody), l.hostile(other)
	for _, h := range []*hostile{l.a, l.b} {
		h.must(h.do(order.Order{Op: order.Lease, Path: l.socket()}).Errno)
	}
	for _, a := range []string{hostIP, hostIP6} {
		for _, p := range []uint8{proto.TCP, proto.UDP} {
			l.a.must(l.a.grant(proto.Item{Proto: p, Addr: ap(a, 0).Addr(), Port: mine}))
		}
	}
	l.a.must(l.a.grant(proto.Item{Proto: proto.ICMP, Addr: host4, Port: mine}))
	l.a.must(l.a.grant(proto.Item{Proto: proto.ICMPv6, Addr: host6, Port: mine}))
	l.a.must(l.a.grant(proto.Item{Proto: proto.UDP, Addr: unspecified(host6), Port: wild}))
	l.b.must(l.b.grant(proto.Item{Proto: proto.UDP, Addr: host4, Port: otherPort}))
	return l
}

// TestIntegrationSecurity has clients of rootd try what docs/rootd.md says they
// cannot, as users without privilege.
func TestIntegrationSecurity(t *testing.T) {
	l := newTrial(t)
	var kernel net.Listener
	l.within(l.host, func() (err error) {
		kernel, err = net.Listen("tcp", fmt.Sprintf("%s:%d", hostIP, kernelPort))
		return err
	})
	defer kernel.Close()
	go serveEcho(kernel)
	l.kernelUDP()
	l.await(l.alptrace(programs.chat, "serve", fmt.Sprintf("%s:%d", hostIP, victimPort)))

	steps := []struct {
		name string
		f    func()
	}{
		{"spoofing", func() {
			for _, s := range spoofs(kernelPort, victimPort) {
				l.spoof(l.a, s)
			}
		}},
		{"resets", l.resets}, {"reading", l.reading}, {"duel", l.duel}, {"ports", l.ports}, {"limits", l.limits},
		{"files", l.files}, {"socket", l.messages}, {"keeping", l.keeping},
	}
	for _, s := range steps {
		begin, from := time.Now(), len(l.rows)
		s.f()
		slices.Sort(l.rows[from:]) // maps have no order
		t.Logf("%s: %v", s.name, time.Since(begin).Round(time.Millisecond))
	}
	l.eyes.mu.Lock()
	defer l.eyes.mu.Unlock()
	for m := range l.eyes.seen {
		if strings.HasPrefix(m, "forged") {
			t.Errorf("%s came out after all", m)
		}
	}
	t.Logf("%d attempts:\n%s", len(l.rows), strings.Join(l.rows, "\n"))
}

func serveEcho(l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			buf := make([]byte, 1<<16)
			for {
				n, err := c.Read(buf)
				if err != nil {
					return
				}
				if _, err := c.Write(buf[:n]); err != nil {
					return
				}
			}
		}()
	}
}

// kernelUDP has sockets of the host's kernel at kernelPort.
func (l *trial) kernelUDP() {
	l.t.Helper()
	for _, a := range []string{hostIP, hostIP6} {
		l.within(l.host, func() error {
			c, err := net.ListenPacket("udp", ap(a, kernelPort).String())
			if err == nil {
				l.t.Cleanup(func() { _ = c.Close() })
			}
			return err
		})
	}
}

// dialFrom connects in a namespace.
func (l *trial) dialFrom(ns netns.NsHandle, network, addr string) (c net.Conn) {
	l.t.Helper()
	l.within(ns, func() (err error) {
		c, err = net.DialTimeout(network, addr, 5*time.Second)
		return err
	})
	l.t.Cleanup(func() { _ = c.Close() })
	return c
}

// inject sends a frame as root, past everything that watches leases.
func (l *trial) inject(ns netns.NsHandle, dev, towards string, towardsNS netns.NsHandle, pkt []byte) {
	l.t.Helper()
	var dst net.HardwareAddr
	l.within(towardsNS, func() error {
		i, err := net.InterfaceByName(towards)
		if err == nil {
			dst = i.HardwareAddr
		}
		return err
	})
	l.within(ns, func() error {
		i, err := net.InterfaceByName(dev)
		if err != nil {
			return err
		}
		s, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW, 0)
		if err != nil {
			return err
		}
		defer unix.Close(s)
		frame := append(append(append([]byte{}, dst...), i.HardwareAddr...), 8, 0)
		return unix.Sendto(s, append(frame, pkt...), 0, &unix.SockaddrLinklayer{Ifindex: i.Index})
	})
}

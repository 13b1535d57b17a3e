// Package enginetest tests that an engine keeps the contract of package stack.
//
// What a test demands is what Linux does: the suite also runs on stack/host,
// which is the kernel itself, so an expectation that is wrong fails there. An
// engine's own tests call [Run] with a function that gives two engines that
// reach each other, or one engine twice.
//
// Every wait of the suite is for a notification and then looks at Readiness,
// so an engine that forgets to notify fails by a time-out that names the mask.
package enginetest

import (
	"bytes"
	"encoding/binary"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/alptrace/alptrace/stack"
	"golang.org/x/sys/unix"
)

// patience bounds every wait.
const patience = 5 * time.Second

// Net is what a test runs on: two engines that reach each other.
type Net struct {
	// A is the client's engine, B the server's. They may be the same.
	A, B stack.Engine
	// A4 and B4 are IPv4 addresses of A and B, A6 and B6 IPv6 addresses. An
	// invalid address leaves the tests of its family out. Where A and B are
	// one engine the addresses may be equal.
	A4, B4, A6, B6 netip.Addr
	// Broadcast is a directed broadcast address that A has a route to; invalid
	// if there is none.
	Broadcast netip.Addr
	// Hole is an address that A has a route to and that answers nothing;
	// invalid if there is none. Without it the tests of a handshake under way
	// use a listener whose queue is full.
	Hole netip.Addr
}

// Run runs the suite. newNet is called for each test, and cleans up by itself
// (t.Cleanup). except names tests that the engine is known to fail, with the
// reason; the key is the name without the family ("Stream/Reset") or with it
// ("IPv6/Stream/Reset"). They are skipped.
func Run(t *testing.T, newNet func(t *testing.T) Net, except map[string]string) {
	t.Helper()
	families := []struct {
		name   string
		family int
		pick   func(Net) (a, b netip.Addr)
	}{
		{"IPv4", unix.AF_INET, func(n Net) (a, b netip.Addr) { return n.A4, n.B4 }},
		{"IPv6", unix.AF_INET6, func(n Net) (a, b netip.Addr) { return n.A6, n.B6 }},
	}
	for _, fam := range families {
		t.Run(fam.name, func(t *testing.T) {
			for _, s := range scenes() {
				t.Run(s.name, func(t *testing.T) {
					for _, key := range []string{s.name, fam.name + "/" + s.name} {
						if why, ok := except[key]; ok {
							t.Skip("known difference: " + why)
						}
					}
					n := newNet(t)
					f := &fixture{Net: n, T: t, family: fam.family}
					f.ipA, f.ipB = fam.pick(n)
					if !f.ipA.IsValid() || !f.ipB.IsValid() {
						t.Skip("the engine has no address of this family")
					}
					s.run(f)
				})
			}
		})
	}
}

// scene is one test.
type scene struct {
	name string
	run  func(*fixture)
}

// scenes are all tests, by the file that has them.
func scenes() []scene {
	var all []scene
	for _, part := range [][]scene{
		connectScenes(), listenScenes(), streamScenes(), endScenes(), bindScenes(),
		datagramScenes(), dualScenes(), controlScenes(), optionScenes(), otherScenes(),
	} {
		all = append(all, part...)
	}
	return all
}

// fixture is what a scene works with.
type fixture struct {
	Net
	*testing.T
	family   int
	ipA, ipB netip.Addr
}

// sock is an endpoint whose notifications can be waited for.
type sock struct {
	stack.Endpoint
	f    *fixture
	wake chan struct{}
}

// adopt watches an endpoint and closes it at the end.
func (f *fixture) adopt(ep stack.Endpoint) *sock {
	s := &sock{Endpoint: ep, f: f, wake: make(chan struct{}, 1)}
	ep.Notify(func() {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	})
	f.Cleanup(func() { ep.Notify(nil); ep.Abort() })
	return s
}

// socket makes an endpoint of any kind.
func (f *fixture) socket(e stack.Engine, family, typ int) *sock {
	f.Helper()
	ep, errno := e.Socket(family, typ, 0)
	if errno != 0 {
		f.Fatalf("socket(%d, %d): %v", family, typ, errno)
	}
	return f.adopt(ep)
}

// stream and dgram make an endpoint of the scene's family.
func (f *fixture) stream(e stack.Engine) *sock {
	f.Helper()
	return f.socket(e, f.family, unix.SOCK_STREAM)
}

func (f *fixture) dgram(e stack.Engine) *sock {
	f.Helper()
	return f.socket(e, f.family, unix.SOCK_DGRAM)
}

// must ends the scene if an errno is not the wanted one; expect goes on.
func (f *fixture) must(what string, got, want stack.Errno) {
	f.Helper()
	if got != want {
		f.Fatalf("%s: %s, want %s", what, errName(got), errName(want))
	}
}

func (f *fixture) expect(what string, got, want stack.Errno) {
	f.Helper()
	if got != want {
		f.Errorf("%s: %s, want %s", what, errName(got), errName(want))
	}
}

func errName(e stack.Errno) string {
	if e == 0 {
		return "success"
	}
	if e == unix.EOPNOTSUPP {
		return "EOPNOTSUPP" // and not its other name, ENOTSUP
	}
	return unix.ErrnoName(e)
}

// maskName writes a poll mask as poll(2) does.
func maskName(m uint32) string {
	var names []string
	for _, b := range []struct {
		bit  uint32
		name string
	}{
		{unix.POLLIN, "IN"}, {unix.POLLPRI, "PRI"}, {unix.POLLOUT, "OUT"}, {unix.POLLERR, "ERR"},
		{unix.POLLHUP, "HUP"}, {unix.POLLNVAL, "NVAL"}, {unix.POLLRDHUP, "RDHUP"},
	} {
		if m&b.bit != 0 {
			names = append(names, b.name)
		}
	}
	if len(names) == 0 {
		return "0"
	}
	return strings.Join(names, "|")
}

// until waits for any of the bits.
func (s *sock) until(bits uint32) {
	s.f.Helper()
	end := time.After(patience)
	for s.Readiness()&bits == 0 {
		select {
		case <-s.wake:
		case <-end:
			s.f.Fatalf("readiness is %s, waited for %s", maskName(s.Readiness()), maskName(bits))
		}
	}
}

// mask waits for exactly this readiness.
func (s *sock) mask(what string, want uint32) {
	s.f.Helper()
	end := time.After(patience)
	for s.Readiness() != want {
		select {
		case <-s.wake:
		case <-end:
			s.f.Errorf("%s: readiness is %s, want %s", what, maskName(s.Readiness()), maskName(want))
			return
		}
	}
}

// maskNow demands this readiness at once.
func (s *sock) maskNow(what string, want uint32) {
	s.f.Helper()
	if got := s.Readiness(); got != want {
		s.f.Errorf("%s: readiness is %s, want %s", what, maskName(got), maskName(want))
	}
}

// source is a stack.Source over bytes.
type source struct{ *bytes.Reader }

func from(b []byte) source { return source{bytes.NewReader(b)} }

// write sends all of b, waiting for room.
func (s *sock) write(b []byte) {
	s.f.Helper()
	src := from(b)
	for src.Len() > 0 {
		before := src.Len()
		n, errno := s.WriteFrom(src)
		if errno == unix.EAGAIN {
			s.until(unix.POLLOUT)
			continue
		}
		s.f.must("WriteFrom", errno, 0)
		if n != before-src.Len() {
			s.f.Fatalf("WriteFrom says %d, took %d", n, before-src.Len())
		}
	}
}

// pass writes msg while to reads, and returns what it has read.
func (s *sock) pass(msg []byte, to *sock) []byte {
	s.f.Helper()
	src, end := from(msg), time.Now().Add(patience)
	var got bytes.Buffer
	for got.Len() < len(msg) {
		var wrote stack.Errno
		if src.Len() > 0 {
			if _, wrote = s.WriteFrom(src); wrote != unix.EAGAIN {
				s.f.must("WriteFrom", wrote, 0)
			}
		}
		n, errno := to.ReadTo(&got)
		switch {
		case errno == unix.EAGAIN:
			if time.Now().After(end) {
				s.f.Fatalf("%d of %d bytes came within %v", got.Len(), len(msg), patience)
			}
			time.Sleep(100 * time.Microsecond)
		case errno != 0 || n == 0:
			s.f.Fatalf("ReadTo after %d of %d bytes: %d, %v", got.Len(), len(msg), n, errno)
		}
	}
	return got.Bytes()
}

// writeErr writes one byte and gives the answer.
func (s *sock) writeErr() stack.Errno {
	_, errno := s.WriteFrom(from([]byte("x")))
	return errno
}

// readErr reads once, what there is, and gives the answer.
func (s *sock) readErr() (int, stack.Errno) { return s.ReadTo(io.Discard) }

// read receives n bytes, or fewer if the peer's FIN comes first.
func (s *sock) read(n int) []byte {
	s.f.Helper()
	var b bytes.Buffer
	for b.Len() < n {
		got, errno := s.ReadTo(&b)
		if errno == unix.EAGAIN {
			s.until(unix.POLLIN)
			continue
		}
		s.f.must("ReadTo", errno, 0)
		if got == 0 {
			break
		}
	}
	return b.Bytes()
}

// readText receives a text and compares.
func (s *sock) readText(want string) {
	s.f.Helper()
	if got := string(s.read(len(want))); got != want {
		s.f.Fatalf("received %q, want %q", got, want)
	}
}

// recv takes the next message, waiting for it.
func (s *sock) recv() *stack.Message {
	s.f.Helper()
	s.until(unix.POLLIN)
	m := new(stack.Message)
	s.f.must("Recv", s.Recv(m), 0)
	return m
}

// sendTo sends a message to an address; send to the connected peer.
func (s *sock) sendTo(b []byte, to stack.Addr) stack.Errno {
	_, errno := s.Send(&stack.Message{Data: b, Addr: to, HasAddr: true})
	return errno
}

func (s *sock) send(b []byte) stack.Errno {
	_, errno := s.Send(&stack.Message{Data: b})
	return errno
}

// setInt and getInt are options whose value is an int.
func (s *sock) setInt(level, name, v int) stack.Errno {
	return s.SetOption(level, name, binary.NativeEndian.AppendUint32(nil, uint32(int32(v))))
}

func (s *sock) getInt(level, name int) (int, stack.Errno) {
	var b [4]byte
	n, errno := s.GetOption(level, name, b[:])
	if errno == 0 && n != 4 && n != 1 {
		s.f.Errorf("option %d,%d has %d bytes", level, name, n)
	}
	return int(int32(binary.NativeEndian.Uint32(b[:]))), errno
}

// listener makes a listening stream on B.
func (f *fixture) listener(backlog int) *sock {
	f.Helper()
	l := f.stream(f.B)
	f.must("bind", l.Bind(stack.Addr{IP: f.ipB}), 0)
	f.must("listen", l.Listen(backlog), 0)
	return l
}

// connect begins a connection from s and waits until it is made.
func (s *sock) connect(to stack.Addr) {
	s.f.Helper()
	if errno := s.Connect(to); errno != 0 && errno != unix.EINPROGRESS {
		s.f.Fatal("connect:", errno)
	}
	s.until(unix.POLLOUT | unix.POLLERR)
	s.f.must("SO_ERROR after connect", s.TakeError(), 0)
}

// accept waits for a connection and takes it.
func (s *sock) accept() *sock {
	s.f.Helper()
	s.until(unix.POLLIN)
	ep, errno := s.Accept()
	s.f.must("accept", errno, 0)
	return s.f.adopt(ep)
}

// connected makes two connected streams, a on A and b on B.
func (f *fixture) connected() (a, b *sock) {
	f.Helper()
	l := f.listener(8)
	a = f.stream(f.A)
	a.connect(l.LocalAddr())
	return a, l.accept()
}

// dead is an address of B where nothing listens.
func (f *fixture) dead(typ int) stack.Addr {
	f.Helper()
	s := f.socket(f.B, f.family, typ)
	f.must("bind", s.Bind(stack.Addr{IP: f.ipB}), 0)
	addr := s.LocalAddr()
	s.Close()
	return addr
}

// fill writes until there is no room, and returns how many bytes were taken.
func (s *sock) fill() int {
	s.f.Helper()
	total, chunk := 0, make([]byte, 1<<20)
	for range 200 {
		n, errno := s.WriteFrom(from(chunk))
		if errno == unix.EAGAIN {
			// What is on its way may make room: full is full for a while.
			time.Sleep(20 * time.Millisecond)
			if s.Readiness()&unix.POLLOUT == 0 {
				return total
			}
			continue
		}
		s.f.must("WriteFrom", errno, 0)
		total += n
	}
	s.f.Fatal("the send queue is never full")
	return 0
}

package enginetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"math/rand"
	"sync/atomic"
	"time"

	"github.com/alptrace/alptrace/stack"
	"golang.org/x/sys/unix"
)

func listenScenes() []scene {
	return []scene{
		{"Listen/States", listenStates},
		{"Listen/Unbound", listenUnbound},
		{"Listen/Inherit", listenInherit},
		{"Listen/Wildcard", listenWildcard},
		{"Listen/Shutdown", listenShutdown},
		{"Listen/CloseResetsPending", listenClose},
		{"Listen/AcceptEnded", listenAcceptEnded},
		{"Listen/Many", listenMany},
	}
}

func listenStates(f *fixture) {
	l := f.listener(8)
	l.maskNow("listening", 0)
	_, errno := l.Accept()
	f.expect("accept", errno, unix.EAGAIN)
	f.expect("listen again", l.Listen(16), 0)
	f.expect("bind", l.Bind(stack.Addr{IP: f.ipB}), unix.EINVAL)
	f.expect("connect", l.Connect(stack.Addr{IP: f.ipB, Port: 9}), unix.EISCONN)
	_, errno = l.PeerAddr()
	f.expect("getpeername", errno, unix.ENOTCONN)
	_, errno = l.readErr()
	f.expect("read", errno, unix.ENOTCONN)
	f.expect("write", l.writeErr(), unix.EPIPE)
	if v, _ := l.getInt(unix.SOL_SOCKET, unix.SO_ACCEPTCONN); v != 1 {
		f.Errorf("SO_ACCEPTCONN is %d", v)
	}
	c := f.stream(f.A)
	c.connect(l.LocalAddr())
	l.mask("one pending", unix.POLLIN)
	l.accept()
	l.mask("accepted", 0)
}

// listenUnbound: listen binds to a port of the system's choice.
func listenUnbound(f *fixture) {
	l := f.stream(f.B)
	f.must("listen", l.Listen(8), 0)
	a := l.LocalAddr()
	if a.Port == 0 || specified(a) {
		f.Fatalf("listens on %v", a)
	}
	c := f.stream(f.A)
	c.connect(stack.Addr{IP: f.ipB, Port: a.Port})
	l.accept()
}

// listenInherit: options of a listener that its connections have.
func listenInherit(f *fixture) {
	l := f.stream(f.B)
	options := []struct {
		name        string
		level, opt  int
		set, expect int
	}{
		{"SO_KEEPALIVE", unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1, 1},
		{"SO_OOBINLINE", unix.SOL_SOCKET, unix.SO_OOBINLINE, 1, 1},
		{"SO_REUSEADDR", unix.SOL_SOCKET, unix.SO_REUSEADDR, 1, 1},
		{"SO_RCVBUF", unix.SOL_SOCKET, unix.SO_RCVBUF, 50000, 100000},
		{"SO_RCVLOWAT", unix.SOL_SOCKET, unix.SO_RCVLOWAT, 2, 2},
		{"TCP_NODELAY", unix.IPPROTO_TCP, unix.TCP_NODELAY, 1, 1},
		{"TCP_KEEPIDLE", unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 33, 33},
		{"TCP_KEEPINTVL", unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 11, 11},
		{"TCP_USER_TIMEOUT", unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, 5000, 5000},
	}
	for _, o := range options {
		f.expect(o.name, l.setInt(o.level, o.opt, o.set), 0)
	}
	f.must("bind", l.Bind(stack.Addr{IP: f.ipB}), 0)
	f.must("listen", l.Listen(8), 0)
	c := f.stream(f.A)
	c.connect(l.LocalAddr())
	s := l.accept()
	for _, o := range options {
		got, errno := s.getInt(o.level, o.opt)
		if errno != 0 || got != o.expect {
			f.Errorf("%s of an accepted connection is %d, %v, want %d", o.name, got, errno, o.expect)
		}
	}
	if v, _ := s.getInt(unix.SOL_SOCKET, unix.SO_ACCEPTCONN); v != 0 {
		f.Errorf("SO_ACCEPTCONN of an accepted connection is %d", v)
	}
}

// listenWildcard: a connection has the address that it came to.
func listenWildcard(f *fixture) {
	l := f.stream(f.B)
	f.must("bind", l.Bind(stack.Addr{}), 0)
	f.must("listen", l.Listen(8), 0)
	c := f.stream(f.A)
	c.connect(stack.Addr{IP: f.ipB, Port: l.LocalAddr().Port})
	s := l.accept()
	if got := s.LocalAddr(); got.IP != f.ipB || got.Port != l.LocalAddr().Port {
		f.Errorf("the connection's address is %v", got)
	}
}

// listenShutdown: SHUT_RD ends listening, SHUT_WR does nothing.
func listenShutdown(f *fixture) {
	l := f.listener(8)
	f.expect("SHUT_WR", l.Shutdown(unix.SHUT_WR), 0)
	c := f.stream(f.A)
	c.connect(l.LocalAddr())
	l.accept()
	f.expect("SHUT_RD", l.Shutdown(unix.SHUT_RD), 0)
	_, errno := l.Accept()
	f.expect("accept", errno, unix.EINVAL)
	l.mask("shut down", unix.POLLOUT|unix.POLLHUP)
	f.expect("listen again", l.Listen(8), 0)
}

// listenClose: connections that nobody accepted are reset.
func listenClose(f *fixture) {
	l := f.listener(8)
	c := f.stream(f.A)
	c.connect(l.LocalAddr())
	l.until(unix.POLLIN)
	l.Close()
	c.until(unix.POLLERR)
	_, errno := c.readErr()
	f.expect("read", errno, unix.ECONNRESET)
}

// listenAcceptEnded: a connection whose client has come, written and gone is
// accepted, and its bytes read.
func listenAcceptEnded(f *fixture) {
	l := f.listener(8)
	c := f.stream(f.A)
	c.connect(l.LocalAddr())
	c.write([]byte("gone"))
	c.Close()
	s := l.accept()
	s.readText("gone")
	s.until(unix.POLLRDHUP)
	n, errno := s.readErr()
	if n != 0 || errno != 0 {
		f.Errorf("read at the end: %d, %v", n, errno)
	}
}

func listenMany(f *fixture) {
	l := f.listener(64)
	const n = 32
	var clients []*sock
	for range n {
		c := f.stream(f.A)
		if errno := c.Connect(l.LocalAddr()); errno != unix.EINPROGRESS {
			f.Fatal("connect:", errno)
		}
		clients = append(clients, c)
	}
	for range n {
		s := l.accept()
		s.write([]byte{1})
	}
	for _, c := range clients {
		c.until(unix.POLLIN)
		c.read(1)
	}
	_, errno := l.Accept()
	f.expect("accept after the last", errno, unix.EAGAIN)
}

func streamScenes() []scene {
	return []scene{
		{"Stream/Echo", streamEcho},
		{"Stream/ShortWriter", streamShortWriter},
		{"Stream/Bulk", streamBulk},
		{"Stream/Full", streamFull},
		{"Stream/Queued", streamQueued},
		{"Stream/Notify", streamNotify},
		{"Stream/CloseDelivers", streamCloseDelivers},
	}
}

func streamEcho(f *fixture) {
	a, b := f.connected()
	a.maskNow("connected", unix.POLLOUT)
	b.mask("accepted", unix.POLLOUT)
	for _, n := range []int{1, 100, 1460, 5000, 70000} {
		msg := make([]byte, n)
		rand.New(rand.NewSource(int64(n))).Read(msg)
		if !bytes.Equal(b.pass(a.pass(msg, b), a), msg) {
			f.Fatalf("%d bytes came back different", n)
		}
	}
	a.mask("all read", unix.POLLOUT)
}

// limited takes at most n bytes in all.
type limited struct {
	bytes.Buffer
	n int
}

func (l *limited) Write(b []byte) (int, error) {
	n := min(len(b), l.n)
	l.n -= n
	l.Buffer.Write(b[:n])
	if n < len(b) {
		return n, unix.EAGAIN
	}
	return n, nil
}

// streamShortWriter: what the writer does not take is not lost.
func streamShortWriter(f *fixture) {
	a, b := f.connected()
	a.write([]byte("0123456789"))
	b.until(unix.POLLIN)
	for b.f.pendingIn(b) < 10 {
		time.Sleep(time.Millisecond)
	}
	w := &limited{}
	_, errno := b.ReadTo(w)
	f.expect("ReadTo a full writer", errno, unix.EAGAIN)
	b.maskNow("nothing taken", unix.POLLIN|unix.POLLOUT)
	w.n = 4
	n, errno := b.ReadTo(w)
	if n != 4 || errno != 0 {
		f.Errorf("ReadTo with room for 4: %d, %v", n, errno)
	}
	b.maskNow("4 of 10 taken", unix.POLLIN|unix.POLLOUT)
	if in := f.pendingIn(b); in != 6 {
		f.Errorf("%d bytes queued, want 6", in)
	}
	w.n = 100
	b.ReadTo(w)
	if w.String() != "0123456789" {
		f.Errorf("received %q", w.String())
	}
	b.mask("all taken", unix.POLLOUT)
}

func (f *fixture) pendingIn(s *sock) int {
	in, _ := s.Queued()
	return in
}

func streamBulk(f *fixture) {
	a, b := f.connected()
	data := make([]byte, 8<<20)
	rand.New(rand.NewSource(1)).Read(data)
	done := make(chan struct{})
	go func() {
		defer close(done)
		a.write(data)
		_ = a.Shutdown(unix.SHUT_WR)
	}()
	got := b.read(len(data) + 1)
	<-done
	if sha256.Sum256(got) != sha256.Sum256(data) {
		f.Errorf("%d bytes of %d arrived, or different ones", len(got), len(data))
	}
}

// streamFull: a full send queue, and room again when the peer reads.
func streamFull(f *fixture) {
	a, b := f.connected()
	total := a.fill()
	a.maskNow("full", 0)
	f.expect("write", a.writeErr(), unix.EAGAIN)
	if len(b.read(total)) != total {
		f.Fatal("bytes are missing")
	}
	a.until(unix.POLLOUT)
	a.write([]byte("more"))
	b.readText("more")
}

func streamQueued(f *fixture) {
	a, b := f.connected()
	a.write(make([]byte, 1000))
	end := time.Now().Add(patience)
	for {
		in, _ := b.Queued()
		_, out := a.Queued()
		if in == 1000 && out == 0 {
			break
		}
		if time.Now().After(end) {
			f.Fatalf("%d bytes received, %d not acknowledged", in, out)
		}
		time.Sleep(time.Millisecond)
	}
	total := a.fill()
	if _, out := a.Queued(); out <= 0 || out > total {
		f.Errorf("%d bytes in the send queue, %d written", out, total)
	}
}

// streamNotify: a notification for each arrival, none after Notify(nil).
func streamNotify(f *fixture) {
	a, b := f.connected()
	var n atomic.Int64
	b.Notify(func() { n.Add(1) })
	for i := range 3 {
		start := n.Load()
		a.write([]byte("x"))
		end := time.Now().Add(patience)
		for n.Load() == start {
			if time.Now().After(end) {
				f.Fatalf("no notification of arrival %d", i)
			}
			time.Sleep(time.Millisecond)
		}
		b.readErr()
	}
	b.Notify(nil)
	time.Sleep(10 * time.Millisecond)
	start := n.Load()
	a.write([]byte("x"))
	time.Sleep(50 * time.Millisecond)
	if n.Load() != start {
		f.Error("notified after Notify(nil)")
	}
}

// streamCloseDelivers: what was written before Close arrives, and Drain waits.
func streamCloseDelivers(f *fixture) {
	a, b := f.connected()
	total := a.fill()
	a.Close()
	if got := len(b.read(total + 1)); got != total {
		f.Errorf("%d bytes before FIN, %d written", got, total)
	}
	b.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	f.A.Drain(ctx)
	if ctx.Err() != nil {
		f.Error("Drain does not return")
	}
}

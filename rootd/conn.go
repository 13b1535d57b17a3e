package rootd

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/policy"
	"github.com/alptrace/alptrace/rootd/proto"
)

const (
	// writeTime is how long a client may leave a reply unread.
	writeTime = 5 * time.Second
	// eventTime is the same for what it did not ask for.
	eventTime = 100 * time.Millisecond
	// spareConns is how many connections a user may have beside leases.
	spareConns = 8
	// What a request costs in items, where it is more than its items.
	helloCost  = 100
	statusCost = 100
)

// conn is one client. Its requests are worked through one after the other.
type conn struct {
	s    *Server
	c    *net.UnixConn
	peer peer
	l    *lease // once there is one

	wmu sync.Mutex // one writer at a time
}

// refusal is an error whose text is for the client.
type refusal struct {
	errno unix.Errno
	text  string
}

func (r *refusal) Error() string { return r.text }
func (r *refusal) Unwrap() error { return r.errno }

func refuse(errno unix.Errno, format string, args ...any) error {
	return &refusal{errno, fmt.Sprintf(format, args...)}
}

// begin serves nc on a goroutine of its own, if its user has not too many.
func (s *Server) begin(nc *net.UnixConn) {
	c := &conn{s: s, c: nc}
	var err error
	if c.peer, err = peerOf(nc); err != nil {
		s.log.Warn("connection refused", "err", err)
		_ = nc.Close()
		return
	}
	if err := s.enter(c); err != nil {
		s.log.Warn("connection refused", "uid", c.peer.UID, "pid", c.peer.PID, "err", err)
		c.farewell(err)
		_ = nc.Close()
		return
	}
	s.wg.Go(func() {
		defer s.leave(c)
		c.serve()
	})
}

func (s *Server) enter(c *conn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return refuse(unix.EAGAIN, "rootd stops")
	}
	a := s.account(c.peer.UID)
	if limit := s.access.For(c.peer.Peer).Leases + spareConns; a.conns >= limit {
		return refuse(unix.EAGAIN, "user %d has %d connections, the limit", c.peer.UID, a.conns)
	}
	if limit := s.access.Leases + spareConns; len(s.conns) >= limit && c.peer.UID != 0 {
		return refuse(unix.EAGAIN, "%d connections, the limit", len(s.conns))
	}
	a.conns++
	s.conns[c] = struct{}{}
	return nil
}

func (s *Server) leave(c *conn) {
	_ = c.c.Close()
	s.mu.Lock()
	delete(s.conns, c)
	s.account(c.peer.UID).conns--
	stopped := s.stopped
	s.mu.Unlock()
	if c.l == nil || stopped {
		return // stopped: the lease is for the next daemon, or EndAll
	}
	s.endLease(c.l, "connection closed")
}

// serve answers requests until the client goes, errs or is slow.
func (c *conn) serve() {
	buf := make([]byte, proto.MaxMessage+1)
	// Closes the connection of one who says nothing, not of one with a lease.
	_ = c.c.SetReadDeadline(time.Now().Add(c.s.cfg.FirstWord))
	for {
		n, _, flags, _, err := c.c.ReadMsgUnix(buf, nil)
		if err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !errors.Is(err, unix.ECONNRESET) {
				c.log("connection", err)
			}
			return
		}
		if flags&unix.MSG_TRUNC != 0 {
			n = len(buf) // Decode refuses that many
		}
		seq, m, err := proto.Decode(buf[:n])
		if err == nil && seq == 0 {
			err = fmt.Errorf("%w: sequence number 0", proto.ErrMalformed)
		}
		if err != nil {
			c.log("connection closed", err)
			c.farewell(refuse(unix.EPROTO, "%v", err))
			return
		}
		if !c.wait(cost(m)) {
			return
		}
		if err := c.answer(seq, m); err != nil {
			if !errors.Is(err, net.ErrClosed) && !errors.Is(err, unix.EPIPE) {
				c.log("connection closed", err)
			}
			return
		}
	}
}

func (c *conn) log(msg string, err error) {
	args := []any{"uid", c.peer.UID, "pid", c.peer.PID, "err", err}
	if c.l != nil {
		args = append(args, "lease", c.l.id)
	}
	c.s.log.Warn(msg, args...)
}

func cost(m proto.Message) int {
	switch m := m.(type) {
	case proto.Grant:
		return len(m.Items)
	case proto.Release:
		return len(m.Items)
	case proto.Ephemeral:
		return int(m.N)
	case proto.Hello, proto.Resume:
		return helloCost
	case proto.Status:
		return statusCost
	default:
		return 1
	}
}

// wait slows a user down to the rate of the policy. It returns false when the
// client is gone, which must not wait: the lease is to end at once.
func (c *conn) wait(n int) bool {
	delay, ok := c.s.pace(c.peer.UID, n, c.rights())
	if !ok {
		c.farewell(refuse(unix.EACCES, "policy: a rate of 0"))
		return false
	}
	for until := time.Now().Add(delay); ; {
		rest := time.Until(until)
		if rest <= 0 {
			return true
		}
		time.Sleep(min(rest, 20*time.Millisecond))
		if c.hungUp() {
			return false
		}
	}
}

func (c *conn) rights() policy.Rights {
	if c.l == nil {
		return c.s.rightsOf(c.peer)
	}
	c.l.mu.Lock()
	defer c.l.mu.Unlock()
	return c.l.rights
}

func (c *conn) hungUp() bool {
	raw, err := c.c.SyscallConn()
	if err != nil {
		return true
	}
	gone := false
	err = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		n, err := unix.Poll(p, 0)
		gone = err == nil && n > 0 && p[0].Revents&(unix.POLLHUP|unix.POLLRDHUP|unix.POLLERR|unix.POLLNVAL) != 0
	})
	return gone || err != nil
}

// answer serves one request. An error ends the connection.
func (c *conn) answer(seq uint32, m proto.Message) error {
	var reply proto.Message
	var file *os.File
	var err error
	switch m := m.(type) {
	case proto.Hello:
		reply, file, err = c.hello(m)
	case proto.Resume:
		reply, err = c.resume(m)
	case proto.Status:
		reply, file, err = c.status()
	case proto.Grant, proto.Release, proto.Ephemeral:
		if c.l == nil {
			err = refuse(unix.ENOTCONN, "no lease: Hello comes first")
			break
		}
		reply = proto.Results{Results: c.items(m)}
	default:
		err = fmt.Errorf("%w: %T from a client", proto.ErrMalformed, m)
		c.farewell(refuse(unix.EPROTO, "%v", err))
		return err
	}
	defer closeFile(file)
	if err != nil {
		var r *refusal
		if !errors.As(err, &r) {
			r = &refusal{unix.EIO, err.Error()}
		}
		c.log("refused", err)
		reply = failure(r)
	}
	return c.send(seq, reply, file, writeTime)
}

func (c *conn) items(m proto.Message) []proto.Result {
	switch m := m.(type) {
	case proto.Grant:
		return c.s.grant(c.l, m.Items)
	case proto.Release:
		return c.s.release(c.l, m.Items)
	default:
		return c.s.ephemeral(c.l, m.(proto.Ephemeral))
	}
}

func (c *conn) hello(m proto.Hello) (proto.Message, *os.File, error) {
	if c.l != nil {
		return nil, nil, refuse(unix.EISCONN, "a connection has one lease")
	}
	l, file, err := c.s.beginLease(c, m.Program)
	if err != nil {
		return nil, nil, err
	}
	c.l = l
	_ = c.c.SetReadDeadline(time.Time{})
	return c.s.welcome(l), file, nil
}

func (c *conn) resume(m proto.Resume) (proto.Message, error) {
	if c.l != nil {
		return nil, refuse(unix.EISCONN, "a connection has one lease")
	}
	l, err := c.s.resumeLease(c, m)
	if err != nil {
		return nil, err
	}
	c.l = l
	_ = c.c.SetReadDeadline(time.Time{})
	return c.s.welcome(l), nil
}

// welcome describes l to its client.
func (s *Server) welcome(l *lease) proto.Welcome {
	h := s.host.Load()
	l.mu.Lock()
	defer l.mu.Unlock()
	return proto.Welcome{
		Lease: l.id, Token: l.token, Device: l.dev.Name, Index: clampU32(l.dev.Index), MTU: clampU32(l.dev.MTU),
		Limits:    proto.Limits{Grants: clampU32(l.rights.Grants), Rate: clampU32(l.rights.Rate)},
		PortFirst: h.first, PortLast: h.last, Unprivileged: h.unprivileged, Grace: s.cfg.Grace,
	}
}

func failure(r *refusal) proto.Failure {
	text := r.text
	if len(text) > 200 {
		text = text[:200]
	}
	return proto.Failure{Errno: r.errno, Text: proto.Clean(text)}
}

// farewell tells the client why its connection is closed, if it listens.
func (c *conn) farewell(err error) {
	var r *refusal
	if errors.As(err, &r) {
		_ = c.send(0, failure(r), nil, eventTime)
	}
}

// send writes one message, with a descriptor, within limit.
func (c *conn) send(seq uint32, m proto.Message, file *os.File, limit time.Duration) error {
	b, err := proto.Append(nil, seq, m)
	if err != nil {
		return err
	}
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if err := c.c.SetWriteDeadline(time.Now().Add(limit)); err != nil {
		return err
	}
	if file == nil {
		_, err = c.c.Write(b)
		return err
	}
	raw, err := file.SyscallConn()
	if err != nil {
		return err
	}
	// Control, not Fd: that would make the device block for the client, too.
	ctl := raw.Control(func(fd uintptr) {
		_, _, err = c.c.WriteMsgUnix(b, unix.UnixRights(int(fd)), nil)
	})
	return errors.Join(ctl, err)
}

package wire

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/internal/park"
	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/internal/mesh"
	"github.com/alptrace/alptrace/link/internal/rawio"
)

// hello is the first message of whoever made a connection: the version of the
// protocol, followed by the sender's name.
const hello = "alpwire1"

// rxBatch is the number of frames read at once.
const rxBatch = 32

// members is the goroutine of a Link: it accepts, reads, learns and removes.
type members struct {
	l        *Link
	epfd     int // the Lot's
	listener int
	paused   time.Time        // when to accept again, after running out of descriptors
	conns    map[int]*peer    // by descriptor, also those without a name
	byName   map[string]*peer // those in the table
	retries  []retry          // sorted by nothing: they are few
	bell     *time.Timer      // rings the Lot when retries are due
	events   [64]unix.EpollEvent
	nameless int // of conns

	msgs [rxBatch]rawio.Mmsghdr
	iov  [rxBatch]unix.Iovec
	rx   [rxBatch][]byte
	bufs [rxBatch][1][]byte
	pkts [rxBatch]link.Packet
}

// retry is a member to connect to later.
type retry struct {
	name    string
	at      time.Time
	tries   int // in vain
	redials int // connections that it has ended
}

const (
	retryEvery = 100 * time.Millisecond
	maxTries   = 100
	maxRedials = 3
)

// newMembers listens, and connects to all members.
func newMembers(l *Link) (_ *members, err error) {
	m := &members{l: l, listener: -1, conns: map[int]*peer{}, byName: map[string]*peer{}}
	defer func() {
		if err != nil {
			m.teardown()
			if l.lot != nil {
				_ = l.lot.Close()
			}
		}
	}()
	if m.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	if l.lot, err = park.New(m.epfd, "epoll"); err != nil {
		_ = unix.Close(m.epfd)
		return nil, err
	}
	if m.listener, l.self, err = l.dir.listen(); err != nil {
		return nil, err
	}
	if err = m.watch(m.listener); err != nil {
		return nil, err
	}
	names, err := l.dir.members()
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		if n != l.self {
			m.dial(retry{name: n})
		}
	}
	size := link.VnetLen + mesh.MaxFrame
	arena := make([]byte, rxBatch*size)
	for i := range m.msgs {
		m.rx[i] = arena[i*size : (i+1)*size : (i+1)*size]
		m.iov[i].Base = &m.rx[i][0]
		m.iov[i].SetLen(size)
		m.msgs[i].Hdr.Iov = &m.iov[i]
		m.msgs[i].Hdr.SetIovlen(1)
	}
	return m, nil
}

func (m *members) watch(fd int) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
	if err := unix.EpollCtl(m.epfd, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// teardown leaves the wire: first the name, so that nobody calls in vain.
func (m *members) teardown() {
	if m.l.self != "" {
		m.l.dir.unlink(m.l.self + suffix)
	}
	m.l.net.Clear()
	for _, p := range m.conns {
		p.close()
	}
	if m.listener >= 0 {
		_ = unix.Close(m.listener)
	}
}

// loop serves until the link is closed.
func (m *members) loop() {
	l := m.l
	defer close(l.done)
	defer l.dir.close()
	defer m.teardown()
	m.bell = time.AfterFunc(0, l.lot.Ring)
	defer m.bell.Stop()
	l.lot.Wait(func() bool {
		for more := true; more; {
			more = m.serve()
			m.later()
			runtime.Gosched() // whoever has been woken by what came
		}
		return l.closed.Load()
	})
}

// serve does what there is to do now on every connection; false if there was
// nothing.
func (m *members) serve() bool {
	n, e := rawio.Events(m.epfd, m.events[:])
	if e != 0 {
		m.l.log.Warn("wire: delivery ended", "err", e)
	}
	for _, ev := range m.events[:n] {
		if m.l.closed.Load() {
			return false
		}
		fd := int(ev.Fd)
		if fd == m.listener {
			m.accept()
		} else if p := m.conns[fd]; p != nil {
			m.read(p)
		}
	}
	return n > 0
}

// later does what is due.
func (m *members) later() {
	if len(m.retries) == 0 && m.paused.IsZero() {
		return
	}
	now := time.Now()
	if !m.paused.IsZero() && !now.Before(m.paused) {
		m.paused = time.Time{}
		_ = m.watch(m.listener)
	}
	var due []retry
	m.retries = slices.DeleteFunc(m.retries, func(r retry) bool {
		if r.at.After(now) {
			return false
		}
		due = append(due, r)
		return true
	})
	for _, r := range due {
		m.dial(r)
	}
	m.remind()
}

// remind has later called again when something is due.
func (m *members) remind() {
	next := m.paused
	for _, r := range m.retries {
		if next.IsZero() || r.at.Before(next) {
			next = r.at
		}
	}
	if !next.IsZero() {
		m.bell.Reset(time.Until(next))
	}
}

// accept takes new connections.
func (m *members) accept() {
	for {
		fd, _, err := unix.Accept4(m.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return
		case errors.Is(err, unix.EINTR) || errors.Is(err, unix.ECONNABORTED):
			continue
		case err != nil: // out of descriptors or memory: do not spin on it
			m.l.log.Warn("wire: accept", "err", err)
			_ = unix.EpollCtl(m.epfd, unix.EPOLL_CTL_DEL, m.listener, nil)
			m.paused = time.Now().Add(retryEvery)
			return
		}
		if err = prepare(fd); err == nil && m.nameless < maxLinger {
			err = m.watch(fd)
		} else if err == nil {
			err = unix.EMFILE
		}
		if err != nil {
			m.l.log.Warn("wire: connection refused", "err", err)
			_ = unix.Close(fd)
			continue
		}
		m.conns[fd] = &peer{l: m.l, fd: fd, since: time.Now()}
		m.nameless++
	}
}

// dial connects to a member, sweeps it if it is dead, or arranges to try again.
func (m *members) dial(r retry) {
	if m.byName[r.name] != nil {
		return // it was faster
	}
	fd, err := m.l.dir.dial(r.name + suffix)
	switch {
	case err == nil:
	case errors.Is(err, unix.ECONNREFUSED):
		m.l.log.Info("wire: stale member removed", "member", r.name)
		m.l.dir.unlink(r.name + suffix)
		return
	case errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EPERM):
		return
	default: // EAGAIN: its backlog is full; EMFILE: we are
		if r.tries++; r.tries < maxTries {
			r.at = time.Now().Add(retryEvery)
			m.retries = append(m.retries, r)
		}
		return
	}
	p := &peer{l: m.l, fd: fd, name: r.name, outgoing: true, since: time.Now(), redials: r.redials}
	if _, err := unix.SendmsgN(fd, []byte(hello+m.l.self), nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT); err != nil || m.watch(fd) != nil {
		_ = unix.Close(fd)
		if p.redials < maxRedials {
			m.redial(p)
		}
		return
	}
	m.conns[fd] = p
	m.add(p)
}

// redial arranges to connect again to a member that has ended p: to join it
// again if it lives, and to sweep it if it does not.
func (m *members) redial(p *peer) {
	n := p.redials + 1
	if time.Since(p.since) > 10*time.Second {
		n = 1
	}
	if n <= maxRedials {
		m.retries = append(m.retries, retry{name: p.name, at: time.Now().Add(time.Duration(n*n) * 5 * time.Millisecond), redials: n})
	}
}

// add puts a connection with a name in the table. Of two with one member, that
// stays which the lesser name made; both members decide alike.
func (m *members) add(p *peer) {
	if old := m.byName[p.name]; old != nil {
		if old.outgoing != p.outgoing && old.outgoing == (m.l.self < p.name) {
			m.drop(p)
			return
		}
		m.drop(old)
	}
	m.byName[p.name] = p
	m.l.net.Add(p)
	m.l.log.Info("wire: member", "member", p.name)
}

// drop ends a connection.
func (m *members) drop(p *peer) {
	delete(m.conns, p.fd)
	if p.name == "" {
		m.nameless--
	} else if m.byName[p.name] == p {
		delete(m.byName, p.name)
		m.l.net.Remove(p)
		m.l.log.Info("wire: member gone", "member", p.name)
	}
	p.close() // also takes it out of epoll
}

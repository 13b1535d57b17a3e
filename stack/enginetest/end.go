package enginetest

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

func endScenes() []scene {
	return []scene{
		{"End/HalfClose", endHalfClose},
		{"End/ShutRead", endShutRead},
		{"End/BothShut", endBothShut},
		{"End/Reset", endReset},
		{"End/ResetAfterData", endResetAfterData},
		{"End/ResetSeenByWrite", endResetSeenByWrite},
		{"End/CloseUnread", endCloseUnread},
		{"End/LingerZero", endLingerZero},
		{"End/WriteToClosed", endWriteToClosed},
	}
}

func endHalfClose(f *fixture) {
	a, b := f.connected()
	a.write([]byte("question"))
	f.must("SHUT_WR", a.Shutdown(unix.SHUT_WR), 0)
	a.mask("after SHUT_WR", unix.POLLOUT)
	f.expect("write after SHUT_WR", a.writeErr(), unix.EPIPE)
	f.expect("SHUT_WR again", a.Shutdown(unix.SHUT_WR), 0)
	b.readText("question")
	b.mask("peer's FIN", unix.POLLIN|unix.POLLOUT|unix.POLLRDHUP)
	for range 2 {
		n, errno := b.readErr()
		if n != 0 || errno != 0 {
			f.Errorf("read at FIN: %d, %v", n, errno)
		}
	}
	b.write([]byte("answer"))
	a.readText("answer")
	b.Close()
	a.mask("both ends shut", unix.POLLIN|unix.POLLOUT|unix.POLLHUP|unix.POLLRDHUP)
	n, errno := a.readErr()
	if n != 0 || errno != 0 {
		f.Errorf("read at the end: %d, %v", n, errno)
	}
	f.expect("shutdown at the end", a.Shutdown(unix.SHUT_RDWR), unix.ENOTCONN)
	_, errno = a.PeerAddr()
	f.expect("getpeername at the end", errno, unix.ENOTCONN)
}

// endShutRead: the own end of reading is no affair of the peer's.
func endShutRead(f *fixture) {
	a, b := f.connected()
	f.must("SHUT_RD", a.Shutdown(unix.SHUT_RD), 0)
	a.mask("after SHUT_RD", unix.POLLIN|unix.POLLOUT|unix.POLLRDHUP)
	n, errno := a.readErr()
	if n != 0 || errno != 0 {
		f.Errorf("read after SHUT_RD: %d, %v", n, errno)
	}
	a.write([]byte("still"))
	b.readText("still")
	b.mask("the peer", unix.POLLOUT)
}

func endBothShut(f *fixture) {
	a, b := f.connected()
	f.must("SHUT_RDWR", a.Shutdown(unix.SHUT_RDWR), 0)
	a.mask("after SHUT_RDWR", unix.POLLIN|unix.POLLOUT|unix.POLLHUP|unix.POLLRDHUP)
	f.expect("write", a.writeErr(), unix.EPIPE)
	b.mask("peer's FIN", unix.POLLIN|unix.POLLOUT|unix.POLLRDHUP)
}

// wantReset demands that s has been reset by its peer.
func (s *sock) wantReset() {
	s.f.Helper()
	s.mask("reset", broken)
	_, errno := s.readErr()
	s.f.expect("read", errno, unix.ECONNRESET)
	n, errno := s.readErr()
	if n != 0 || errno != 0 {
		s.f.Errorf("second read: %d, %s, want 0 and success", n, errName(errno))
	}
	s.f.expect("write", s.writeErr(), unix.EPIPE)
	s.mask("reset, error taken", broken&^unix.POLLERR)
	_, errno = s.PeerAddr()
	s.f.expect("getpeername", errno, unix.ENOTCONN)
}

func endReset(f *fixture) {
	a, b := f.connected()
	a.Abort()
	b.wantReset()
}

// endResetAfterData: data that came before the reset can still be read.
func endResetAfterData(f *fixture) {
	a, b := f.connected()
	a.write([]byte("last words"))
	b.until(unix.POLLIN)
	a.Abort()
	b.until(unix.POLLERR)
	n, errno := b.readErr()
	if n != 10 || errno != 0 {
		f.Errorf("read: %d, %s, want the 10 bytes", n, errName(errno))
	}
	_, errno = b.readErr()
	f.expect("read after the data", errno, unix.ECONNRESET)
}

func endResetSeenByWrite(f *fixture) {
	a, b := f.connected()
	a.Abort()
	b.until(unix.POLLERR)
	f.expect("write", b.writeErr(), unix.ECONNRESET)
	f.expect("second write", b.writeErr(), unix.EPIPE)
	n, errno := b.readErr()
	if n != 0 || errno != 0 {
		f.Errorf("read: %d, %s, want 0 and success", n, errName(errno))
	}
	f.expect("SO_ERROR", b.TakeError(), 0)
}

// endCloseUnread: closing with unread data is a reset (RFC 2525, 2.17).
func endCloseUnread(f *fixture) {
	a, b := f.connected()
	b.write([]byte("unread"))
	a.until(unix.POLLIN)
	a.Close()
	b.wantReset()

	// The same when ReadTo has seen the data and its writer has not taken it.
	a, b = f.connected()
	b.write([]byte("unread"))
	a.until(unix.POLLIN)
	_, errno := a.ReadTo(&limited{})
	f.expect("ReadTo a full writer", errno, unix.EAGAIN)
	a.Close()
	b.wantReset()
}

func endLingerZero(f *fixture) {
	a, b := f.connected()
	l := binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, 1), 0)
	f.must("SO_LINGER", a.SetOption(unix.SOL_SOCKET, unix.SO_LINGER, l), 0)
	a.Close()
	b.wantReset()
}

// endWriteToClosed: the peer has closed; the first write draws a reset, which
// is EPIPE here, for the FIN was seen before.
func endWriteToClosed(f *fixture) {
	a, b := f.connected()
	a.Close()
	b.mask("peer's FIN", unix.POLLIN|unix.POLLOUT|unix.POLLRDHUP)
	b.write([]byte("x"))
	b.mask("reset", broken)
	n, errno := b.readErr()
	if n != 0 || errno != 0 {
		f.Errorf("read: %d, %s, want 0 and success", n, errName(errno))
	}
	f.expect("write", b.writeErr(), unix.EPIPE)
}

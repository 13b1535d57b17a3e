package netstack

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip"

	"github.com/alptrace/alptrace/stack"
)

// setRecvErr turns the error queue on or off (IP_RECVERR, IPV6_RECVERR).
func (d *dgramSock) setRecvErr(v6, on bool) {
	if d.errq == nil && !on {
		return
	}
	d.needErrQueue()
	q := d.errq
	q.mu.Lock()
	if v6 {
		q.on6 = on
	} else {
		q.on4 = on
	}
	if !on {
		q.list = nil
	}
	q.mu.Unlock()
	d.syncErrQueue()
}

// needErrQueue makes the error queue.
func (d *dgramSock) needErrQueue() {
	if d.errq == nil {
		d.errq = &errQueue{kind: d.kind, proto: uint8(d.proto)}
	}
}

// syncErrQueue tells the error queue the socket's addresses, and has the engine
// tell it of errors if any are wanted.
func (d *dgramSock) syncErrQueue() {
	q := d.errq
	if q == nil {
		return
	}
	local := d.local()
	q.mu.Lock()
	defer q.mu.Unlock()
	q.local, q.port = local.IP, local.Port
	q.connected, q.peer, q.peerPort = d.connected, d.peer.IP, d.peer.Port
	want := q.on4 || q.on6 || q.connected
	switch {
	case want && !q.in:
		d.engine.errs.add(d)
	case !want && q.in:
		d.engine.errs.remove(d)
	}
	q.in = want
}

// errPending says whether the error queue, or its error, makes POLLERR.
func (d *dgramSock) errPending() bool {
	q := d.errq
	if q == nil {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.list) > 0 || q.err != 0
}

// pullErr takes the error of the error queue into the socket's.
func (d *dgramSock) pullErr() {
	q := d.errq
	if q == nil {
		return
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.err != 0 {
		d.err, q.err = q.err, 0
	}
}

// localError queues an error of this host, such as a message too long.
func (d *dgramSock) localError(err stack.Errno, info uint32, to *tcpip.FullAddress) {
	q := d.errq
	if q == nil {
		return
	}
	dst := d.peer
	if to != nil {
		dst = toAddr(int(d.family), *to)
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	v6 := d.is6() && !dst.IP.Is4In6()
	if v6 && !q.on6 || !v6 && !q.on4 || len(q.list) >= maxErrors {
		return
	}
	q.list = append(q.list, errEntry{errno: err, origin: unix.SO_EE_ORIGIN_LOCAL, info: info, v6: v6, dst: dst})
}

// RecvError takes the next entry of the error queue (ip_recv_error).
func (d *dgramSock) RecvError(m *stack.Message) stack.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	m.Data, m.Control = m.Data[:0], m.Control[:0]
	q := d.errq
	if q == nil {
		return unix.EAGAIN
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.list) == 0 {
		return unix.EAGAIN
	}
	e := q.list[0]
	q.list = q.list[1:]
	q.err = 0
	if len(q.list) > 0 && q.list[0].origin != unix.SO_EE_ORIGIN_LOCAL {
		q.err = q.list[0].errno
	}
	m.Data = append(m.Data, e.payload...)
	m.Addr, m.HasAddr = e.dst, true
	if d.is6() {
		m.Addr.IP = toIP(unix.AF_INET6, fromIP(m.Addr.IP))
	}
	m.Flags = unix.MSG_ERRQUEUE
	m.Control = appendExtendedErr(m.Control, &e, d.is6())
	return 0
}

// appendExtendedErr appends IP_RECVERR or IPV6_RECVERR: struct
// sock_extended_err, then the sockaddr of the offender.
func appendExtendedErr(b []byte, e *errEntry, v6 bool) []byte {
	var ee [16]byte
	binary.NativeEndian.PutUint32(ee[:], uint32(e.errno))
	ee[4], ee[5], ee[6] = e.origin, e.typ, e.code
	binary.NativeEndian.PutUint32(ee[8:], e.info)
	family, level, typ := unix.AF_INET, unix.SOL_IP, unix.IP_RECVERR
	if v6 {
		family, level, typ = unix.AF_INET6, unix.SOL_IPV6, unix.IPV6_RECVERR
	}
	offender := sockaddr(family, stack.Addr{IP: e.offender})
	if !e.offender.IsValid() {
		clear(offender) // AF_UNSPEC
	}
	return appendCmsg(b, level, typ, append(ee[:], offender...))
}

// RecvError takes the next entry of the error queue; TCP has none here.
func (t *tcpSock) RecvError(m *stack.Message) stack.Errno {
	m.Data, m.Control = m.Data[:0], m.Control[:0]
	return unix.EAGAIN
}

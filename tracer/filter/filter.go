// Package filter holds the seccomp filter under which traced programs run.
//
// The filter sends to the tracer (SECCOMP_RET_USER_NOTIF) exactly those calls
// on network sockets that a stand-in descriptor cannot answer by itself, and
// lets everything else through. On the machine's own architecture it traps
//
//   - socket, of AF_INET and AF_INET6 only: these become stand-ins;
//   - bind, connect, listen, accept, accept4, shutdown, getsockname,
//     getpeername, getsockopt, setsockopt: control of the socket, whose
//     endpoint is in the stack;
//   - sendmsg, recvmsg, sendmmsg, recvmmsg: addresses and ancillary data are
//     in memory, where a filter cannot look;
//   - sendto with an address, or with MSG_OOB, MSG_DONTROUTE, MSG_PROBE,
//     MSG_CONFIRM, MSG_MORE, MSG_ZEROCOPY or MSG_FASTOPEN, and recvfrom with a
//     place for an address, or with MSG_OOB, MSG_TRUNC or MSG_ERRQUEUE: these an
//     AF_UNIX socket refuses or takes in another sense. Without them (and so
//     for every send and recv of bulk data) both run in the kernel;
//   - ioctl with FIONREAD (SIOCINQ), TIOCOUTQ (SIOCOUTQ), any command
//     0x8900-0x89ff of <linux/sockios.h> (SIOCATMARK, SIOCGIF*, SIOCADDRT, ...),
//     SIOCGSTAMP_NEW and SIOCGSTAMPNS_NEW.
//
// A trapped call may concern a descriptor that is no network socket (FIONREAD
// on a terminal, sendmsg on an AF_UNIX socket); the tracer lets it continue.
//
// Some calls are answered by the filter itself: io_uring_setup, io_uring_enter
// and io_uring_register with ENOSYS, because io_uring's socket operations pass
// seccomp by; sockets of AF_RDS, AF_RXRPC and AF_SMC with EAFNOSUPPORT, because
// they would run over the host's own IP.
//
// Conditions compare only those 32 bits of an int argument that the kernel
// reads, so that garbage in the upper half is no way around the filter.
//
// A 32-bit program (i386 by int 0x80 or the like on amd64, arm on arm64) has the
// same calls trapped under the same conditions; the notification's
// seccomp_data.arch tells. Sockets of AF_RDS, AF_RXRPC and AF_SMC are trapped
// too, because libseccomp cannot tell them from others in socketcall(2). Of
// that, i386's way to make any call on sockets, everything but socketpair is
// trapped whatever its arguments, which are in memory; the tracer lets continue
// what the filter would have (see SendFlags and RecvFlags). Calls of any other
// architecture, and x32's on amd64, answer ENOSYS.
//
// The programs are made by the command in gen from libseccomp; filter_*.pfc is
// the readable form of what filter_*.bin holds.
package filter

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// SendFlags and RecvFlags are the flags of messages for which sendto and recvfrom
// are trapped though they have no address: a stand-in cannot honour them.
const (
	SendFlags = unix.MSG_OOB | unix.MSG_DONTROUTE | msgProbe | unix.MSG_CONFIRM |
		unix.MSG_MORE | unix.MSG_ZEROCOPY | unix.MSG_FASTOPEN
	RecvFlags = unix.MSG_OOB | unix.MSG_TRUNC | unix.MSG_ERRQUEUE

	msgProbe = 0x10 // MSG_PROBE, which golang.org/x/sys/unix does not have
)

//go:generate go run -tags libseccomp ./gen

// insnSize is the size of struct sock_filter in bytes.
const insnSize = 8

// Program is the filter for the architecture that alptrace is built for, ready
// for seccomp(2) SECCOMP_SET_MODE_FILTER.
func Program() []unix.SockFilter {
	return decode(raw)
}

// decode reads an array of little-endian struct sock_filter. A partial
// instruction at the end is left out.
func decode(b string) []unix.SockFilter {
	prog := make([]unix.SockFilter, len(b)/insnSize)
	for i := range prog {
		insn := []byte(b[i*insnSize : (i+1)*insnSize])
		prog[i] = unix.SockFilter{
			Code: binary.LittleEndian.Uint16(insn),
			Jt:   insn[2],
			Jf:   insn[3],
			K:    binary.LittleEndian.Uint32(insn[4:]),
		}
	}
	return prog
}

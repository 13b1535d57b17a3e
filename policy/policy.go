// Package policy is the one place that says what goes where: which sockets the
// stack serves, which stay in the kernel and which are refused.
package policy

import "golang.org/x/sys/unix"

// Verdict is where a socket belongs.
type Verdict struct {
	Where Where
	// Errno is what socket(2) answers where Where is Refuse.
	Errno unix.Errno
}

// Where says who serves a socket.
type Where int

// The places.
const (
	Stack  Where = iota // the engine
	Kernel              // the kernel, untouched
	Refuse
)

// IPPROTO_MPTCP of linux/in.h.
const protoMPTCP = 262

// Families that run over the host's own IP (linux/socket.h).
const (
	familyRDS   = 21 // over TCP
	familyRXRPC = 33 // over UDP
	familySMC   = 43 // over TCP
)

// Socket decides about socket(family, typ, proto); typ has no flags.
//
// AF_INET and AF_INET6 belong to the stack. Multipath TCP is refused as a
// kernel without it refuses (EPROTONOSUPPORT), so that programs fall back to
// TCP. Families that would use the host's IP are refused as well
// (EAFNOSUPPORT). Everything else (AF_UNIX, AF_NETLINK, AF_VSOCK, ...) is local to the
// machine or, as AF_PACKET, guarded by the kernel's own privileges, and stays
// with the kernel.
func Socket(family, typ, proto int) Verdict {
	switch family {
	case unix.AF_INET, unix.AF_INET6:
		if proto == protoMPTCP {
			return Verdict{Refuse, unix.EPROTONOSUPPORT}
		}
		return Verdict{Where: Stack}
	case familyRDS, familyRXRPC, familySMC:
		return Verdict{Refuse, unix.EAFNOSUPPORT}
	default:
		return Verdict{Where: Kernel}
	}
}

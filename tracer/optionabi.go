package tracer

import (
	"github.com/alptrace/alptrace/stack"
	"golang.org/x/sys/unix"
)

// Values of options hold few types whose size depends on the program's long:
// the old struct timeval, struct sock_fprog, and the requests for a multicast
// group, whose address follows an int, aligned to a long. Engines have them as
// this machine does.

// widenOption gives a value that the program has set this machine's layout. One
// that is too short stays so.
func (w word) widenOption(level, name int, val []byte) []byte {
	if w == word64 {
		return val
	}
	switch level {
	case unix.SOL_SOCKET:
		switch name {
		case unix.SO_RCVTIMEO, unix.SO_SNDTIMEO:
			if len(val) >= 2*int(word32) {
				return widen(val[:2*word32])
			}
		case unix.SO_ATTACH_FILTER, unix.SO_ATTACH_REUSEPORT_CBPF:
			return widen(val) // of exactly this size (copy_bpf_fprog_from_user)
		}
	case unix.SOL_IP, unix.SOL_IPV6:
		if name >= unix.MCAST_JOIN_GROUP && name <= unix.MCAST_MSFILTER && len(val) >= 4 {
			out := make([]byte, len(val)+4)
			copy(out, val[:4])
			copy(out[8:], val[4:])
			return out
		}
	}
	return val
}

// getOption reads an option of ep into val, in the layout of the program.
func (w word) getOption(ep stack.Endpoint, level, name int, val []byte) (int, unix.Errno) {
	if w == word64 || level != unix.SOL_SOCKET || name != unix.SO_RCVTIMEO && name != unix.SO_SNDTIMEO {
		return ep.GetOption(level, name, val)
	}
	var tv [2 * word64]byte
	n, e := ep.GetOption(level, name, tv[:])
	if e != 0 {
		return 0, e
	}
	return copy(val, narrow(tv[:n])), 0
}

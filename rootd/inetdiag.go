package rootd

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Of linux/inet_diag.h and the kernel's tcp_states.h.
const (
	sockDiagByFamily = 20
	diagReqLen       = 56 // struct inet_diag_req_v2
	diagMsgLen       = 72 // struct inet_diag_msg
	diagSrc          = 8  // offset of id.idiag_src in inet_diag_msg
	// Every state from TCP_ESTABLISHED to TCP_NEW_SYN_RECV but
	// TCP_TIME_WAIT (6), TCP_CLOSE (7) and TCP_LISTEN (10), which bind(2)
	// judges.
	liveStates = 0x1ffe &^ (1<<6 | 1<<7 | 1<<10)
)

// kernelFlows reports whether the kernel has TCP connections, other than those
// in TIME_WAIT, with g's port and address as the local ones.
func kernelFlows(g Grant) (bool, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_SOCK_DIAG)
	if err != nil {
		return false, err
	}
	defer func() { _ = unix.Close(fd) }()
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 1}); err != nil {
		return false, err
	}
	// A connection over IPv4 may be that of an IPv6 socket.
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		found, err := flowsOf(fd, family, g)
		if found || err != nil {
			return found, err
		}
	}
	return false, nil
}

func flowsOf(fd int, family uint8, g Grant) (bool, error) {
	ne := binary.NativeEndian
	req := make([]byte, unix.NLMSG_HDRLEN+diagReqLen)
	ne.PutUint32(req[0:], uint32(len(req)))
	ne.PutUint16(req[4:], sockDiagByFamily)
	ne.PutUint16(req[6:], unix.NLM_F_REQUEST|unix.NLM_F_DUMP)
	body := req[unix.NLMSG_HDRLEN:]
	body[0], body[1] = family, unix.IPPROTO_TCP
	ne.PutUint32(body[4:], liveStates)
	binary.BigEndian.PutUint16(body[8:], g.Port) // idiag_sport: the kernel filters
	if err := unix.Sendto(fd, req, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return false, err
	}
	found, buf := false, make([]byte, 32<<10)
	for {
		n, _, err := unix.Recvfrom(fd, buf, 0)
		if err != nil {
			return false, err
		}
		for b := buf[:n]; len(b) >= unix.NLMSG_HDRLEN; {
			size := int(ne.Uint32(b))
			if size < unix.NLMSG_HDRLEN || size > len(b) {
				return false, fmt.Errorf("netlink message of %d bytes", size)
			}
			switch ne.Uint16(b[4:]) {
			case unix.NLMSG_DONE:
				return found, nil
			case unix.NLMSG_ERROR:
				if size >= unix.NLMSG_HDRLEN+4 {
					return false, unix.Errno(-int32(ne.Uint32(b[unix.NLMSG_HDRLEN:])))
				}
				return false, unix.EINVAL
			case sockDiagByFamily:
				found = found || diagMatches(b[unix.NLMSG_HDRLEN:size], g)
			}
			b = b[min((size+unix.NLMSG_ALIGNTO-1)&^(unix.NLMSG_ALIGNTO-1), len(b)):]
		}
	}
}

// diagMatches reports whether the connection in an inet_diag_msg has g's
// address, and its port, which the kernel has looked at already.
func diagMatches(msg []byte, g Grant) bool {
	if len(msg) < diagMsgLen || binary.BigEndian.Uint16(msg[4:]) != g.Port {
		return false
	}
	var src netip.Addr
	if msg[0] == unix.AF_INET {
		src = netip.AddrFrom4([4]byte(msg[diagSrc:]))
	} else {
		src = netip.AddrFrom16([16]byte(msg[diagSrc:])).Unmap()
	}
	if g.Addr.IsUnspecified() {
		return src.Is4() == g.Addr.Is4()
	}
	return src == g.Addr
}

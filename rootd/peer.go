package rootd

import (
	"fmt"
	"net"
	"os"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/policy"
	"github.com/alptrace/alptrace/rootd/proto"
)

// peer is a client as the kernel names it: its credentials when it connected.
type peer struct {
	policy.Peer
	PID  int32
	Comm string // the process's name (proc_pid_comm(5)); "" if it is gone
}

// peerOf asks the kernel who is at the other end of c.
func peerOf(c *net.UnixConn) (p peer, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return p, fmt.Errorf("peer: %w", err)
	}
	var inner error
	err = raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); inner != nil {
			return
		}
		p.UID, p.PID, p.GIDs = cred.Uid, cred.Pid, []uint32{cred.Gid}
		var groups []uint32
		groups, inner = peerGroups(int(fd))
		p.GIDs = append(p.GIDs, groups...)
	})
	if err == nil {
		err = inner
	}
	if err != nil {
		return p, fmt.Errorf("peer: %w", err)
	}
	comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.PID))
	if err == nil {
		p.Comm = proto.Name(strings.TrimSuffix(string(comm), "\n"))
	}
	return p, nil
}

// peerGroups returns the supplementary groups of the peer (SO_PEERGROUPS,
// socket(7)).
func peerGroups(fd int) ([]uint32, error) {
	groups := make([]uint32, 64)
	for {
		size := uint32(len(groups) * 4)
		_, _, e := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&groups[0])), uintptr(unsafe.Pointer(&size)), 0)
		switch {
		case e == 0:
			return groups[:size/4], nil
		case e == unix.ERANGE && int(size/4) > len(groups): // size is what is needed
			groups = make([]uint32, size/4)
		default:
			return nil, e
		}
	}
}

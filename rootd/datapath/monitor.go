package datapath

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// settle is how long after one change others are waited for.
const settle = 2 * time.Millisecond

// monitor says when links, addresses, default routes or forwarding change.
type monitor struct {
	file    *os.File
	changed chan struct{}
	ended   chan struct{} // closed when the socket is
	prefix  string
}

// groups are multicast groups of rtnetlink(7). RTNLGRP_* are numbers, the
// address has bits.
const groups = 1<<(unix.RTNLGRP_LINK-1) |
	1<<(unix.RTNLGRP_IPV4_IFADDR-1) | 1<<(unix.RTNLGRP_IPV6_IFADDR-1) |
	1<<(unix.RTNLGRP_IPV4_ROUTE-1) | 1<<(unix.RTNLGRP_IPV6_ROUTE-1) |
	1<<(unix.RTNLGRP_IPV4_NETCONF-1) | 1<<(unix.RTNLGRP_IPV6_NETCONF-1)

// subscribe begins to listen; changes to lease devices are not told.
func subscribe(prefix string) (*monitor, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("netlink: %w", err)
	}
	m := &monitor{file: os.NewFile(uintptr(fd), "rtnetlink"), changed: make(chan struct{}, 1), ended: make(chan struct{}), prefix: prefix}
	go m.read()
	return m, nil
}

func (m *monitor) close() { _ = m.file.Close() }

// wait waits for changes, and for those that follow at once; false after close.
func (m *monitor) wait() bool {
	select {
	case <-m.ended:
		return false
	case <-m.changed:
	}
	time.Sleep(settle)
	select {
	case <-m.changed:
	default:
	}
	return true
}

// kick has wait return.
func (m *monitor) kick() {
	select {
	case m.changed <- struct{}{}:
	default:
	}
}

func (m *monitor) read() {
	defer close(m.ended)
	buf := make([]byte, 1<<16)
	for {
		n, err := m.file.Read(buf)
		if err != nil && !errors.Is(err, unix.ENOBUFS) { // what was lost is looked up
			return
		}
		if err != nil || m.relevant(buf[:n]) {
			m.kick()
		}
	}
}

// relevant says whether there is a message that may change what sync does.
func (m *monitor) relevant(b []byte) bool {
	msgs, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return true
	}
	for i := range msgs {
		switch msgs[i].Header.Type {
		case unix.RTM_NEWLINK, unix.RTM_DELLINK:
			if m.leaseDevice(&msgs[i]) {
				continue
			}
		case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
			// Default routes only: struct rtmsg begins family, dst_len.
			if d := msgs[i].Data; len(d) > 1 && d[1] != 0 {
				continue
			}
		}
		return true
	}
	return false
}

func (m *monitor) leaseDevice(msg *syscall.NetlinkMessage) bool {
	attrs, err := syscall.ParseNetlinkRouteAttr(msg)
	if err != nil {
		return false
	}
	for _, a := range attrs {
		if a.Attr.Type == unix.IFLA_IFNAME {
			return isLeaseDevice(unix.ByteSliceToString(a.Value), m.prefix)
		}
	}
	return false
}

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/test/sharing/hostile/order"
)

// keep does what could make a device outlive its lease.
func (l *lease) keep() order.Answer {
	a := order.Answer{Tried: map[string]unix.Errno{}}
	err := l.control(func(fd int) error {
		dup, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD, 200)
		if err != nil {
			return err
		}
		l.kept = append(l.kept, dup)
		for name, f := range map[string]func() error{
			"TUNSETPERSIST": func() error { return unix.IoctlSetInt(fd, unix.TUNSETPERSIST, 1) },
			"TUNSETOWNER":   func() error { return unix.IoctlSetInt(fd, unix.TUNSETOWNER, unix.Getuid()) },
			"TUNSETGROUP":   func() error { return unix.IoctlSetInt(fd, unix.TUNSETGROUP, unix.Getgid()) },
			"TUNSETIFF":     func() error { return attach(fd, "hostile0") },
		} {
			a.Tried[name] = fail(errOr(f())).Errno
		}
		return nil
	})
	if err != nil {
		return fail(err)
	}
	return a
}

// control runs f on the device's descriptor, which stays with the poller.
func (l *lease) control(f func(fd int) error) error {
	rc, err := l.file.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := rc.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// attach makes fd one of a TUN device of this name.
func attach(fd int, name string) error {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return err
	}
	ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	return unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
}

// give passes the device to the one process that connects to path. It answers
// before that, so that one test can order both.
func (l *lease) give(path string) order.Answer {
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return fail(err)
	}
	if err := os.Chmod(path, 0o777); err != nil {
		return fail(err)
	}
	go func() {
		defer func() { _ = ln.Close() }()
		c, err := ln.AcceptUnix()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		_ = l.control(func(fd int) error {
			_, _, err := c.WriteMsgUnix([]byte{0}, unix.UnixRights(fd), nil)
			return err
		})
	}()
	return order.Answer{}
}

func (c *client) take(o *order.Order) order.Answer {
	uc, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: o.Path, Net: "unix"})
	if err != nil {
		return fail(err)
	}
	defer func() { _ = uc.Close() }()
	_ = uc.SetDeadline(time.Now().Add(3 * time.Second))
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := uc.ReadMsgUnix(make([]byte, 1), oob)
	if err != nil {
		return fail(err)
	}
	msgs, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(msgs) != 1 {
		return fail(fmt.Errorf("%d control messages: %w", len(msgs), errOr(err)))
	}
	fds, err := unix.ParseUnixRights(&msgs[0])
	if err != nil {
		return fail(err)
	}
	if err := unix.SetNonblock(fds[0], true); err != nil {
		return fail(err)
	}
	return order.Answer{Lease: c.add(&lease{file: os.NewFile(uintptr(fds[0]), "tun")})}
}

// steal tries to read what is not this lease's: another's device by its name,
// and all devices.
func steal(name string) order.Answer {
	a := order.Answer{Tried: map[string]unix.Errno{}}
	try := func(what string, err error) { a.Tried[what] = fail(errOr(err)).Errno }
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err == nil {
		err = attach(fd, name)
		_ = unix.Close(fd)
	}
	try("TUNSETIFF "+name, err)
	for what, socket := range map[string][3]int{
		"packet socket": {unix.AF_PACKET, unix.SOCK_RAW, 0x0300}, // ETH_P_ALL
		"raw socket":    {unix.AF_INET, unix.SOCK_RAW, unix.IPPROTO_TCP},
		"raw6 socket":   {unix.AF_INET6, unix.SOCK_RAW, unix.IPPROTO_TCP},
	} {
		s, err := unix.Socket(socket[0], socket[1], socket[2])
		if err == nil {
			_ = unix.Close(s)
		}
		try(what, err)
	}
	return a
}

// touch tries to get at a pin or a file of root's.
func touch(path string) order.Answer {
	a := order.Answer{Tried: map[string]unix.Errno{}}
	try := func(what string, err error) { a.Tried[what] = fail(errOr(err)).Errno }
	f, err := os.Open(path)
	if err == nil {
		_, err = f.ReadDir(1)
		if errors.Is(err, unix.ENOTDIR) {
			err = nil
		}
		_ = f.Close()
	}
	try("open", err)
	try("remove", os.Remove(path))
	name, err := unix.BytePtrFromString(path)
	if err != nil {
		return fail(err)
	}
	// union bpf_attr of bpf(2): for BPF_OBJ_GET a path; for BPF_*_GET_NEXT_ID
	// the id to begin at, which is 0.
	for what, call := range map[string]struct {
		cmd  uintptr
		attr [16]uint64
	}{
		"BPF_OBJ_GET":         {unix.BPF_OBJ_GET, [16]uint64{uint64(uintptr(unsafe.Pointer(name)))}},
		"BPF_MAP_GET_NEXT_ID": {unix.BPF_MAP_GET_NEXT_ID, [16]uint64{}},
	} {
		attr := call.attr
		fd, _, errno := unix.Syscall(unix.SYS_BPF, call.cmd, uintptr(unsafe.Pointer(&attr)), unsafe.Sizeof(attr))
		if errno == 0 && call.cmd == unix.BPF_OBJ_GET {
			_ = unix.Close(int(fd))
		}
		a.Tried[what] = errno
	}
	runtime.KeepAlive(name)
	return a
}

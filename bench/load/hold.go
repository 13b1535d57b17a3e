package main

import (
	"bufio"
	"fmt"
	"os"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/bench/result"
)

// holdClient opens o.warm connections, says "warm" and waits for a line; opens
// the rest of o.count, says "held" and waits for a line; then proves that every
// connection is served, by a byte each way, and counts those that were.
func holdClient(o *options) (result.Load, error) {
	sa, err := parseAddr(o.connect)
	if err != nil {
		return result.Load{}, err
	}
	in := bufio.NewReader(os.Stdin)
	start := time.Now()
	fds := make([]int, 0, o.count)
	b := make([]byte, 1)
	for len(fds) < o.count {
		if len(fds) == o.warm {
			for _, fd := range fds { // the first use of everything
				if err := exchange(fd, b); err != nil {
					return result.Load{}, err
				}
			}
			say("warm")
			if err := await(in); err != nil {
				return result.Load{}, fmt.Errorf("standard input: %w", err)
			}
		}
		fd, err := dialTCP(sa)
		if err != nil {
			return result.Load{}, fmt.Errorf("connection %d: %w", len(fds)+1, err)
		}
		fds = append(fds, fd)
	}
	say("held")
	if err := await(in); err != nil {
		return result.Load{}, fmt.Errorf("standard input: %w", err)
	}
	r := result.Load{}
	for i, fd := range fds {
		if err := exchange(fd, b); err != nil {
			return r, fmt.Errorf("connection %d: %w", i+1, err)
		}
		r.Count++
	}
	r.Seconds = time.Since(start).Seconds()
	return r, nil
}

func exchange(fd int, b []byte) error {
	if _, err := write(fd, b); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	if err := readByte(fd, b); err != nil {
		return fmt.Errorf("read: %w", err)
	}
	return nil
}

// holdServer accepts connections and sends every byte back, until o.count
// connections have come and all have gone: one thread and epoll, as such
// servers are.
func holdServer(o *options) (result.Load, error) {
	l, err := listenTCP(o.listen, 4096)
	if err != nil {
		return result.Load{}, err
	}
	ep, err := call(unix.SYS_EPOLL_CREATE1, unix.EPOLL_CLOEXEC, 0, 0, 0, 0, 0)
	if err != nil {
		return result.Load{}, fmt.Errorf("epoll_create1: %w", err)
	}
	if err := watch(ep, l); err != nil {
		return result.Load{}, err
	}
	ready()
	var r result.Load
	gone := 0
	events := make([]unix.EpollEvent, 128)
	b := make([]byte, 1)
	for gone < o.count {
		n, err := call(unix.SYS_EPOLL_PWAIT, uintptr(ep), uintptr(unsafe.Pointer(&events[0])),
			uintptr(len(events)), ^uintptr(0), 0, 0)
		if err != nil {
			return r, fmt.Errorf("epoll_pwait: %w", err)
		}
		for _, e := range events[:n] {
			fd := int(e.Fd)
			if fd == l {
				c, err := accept(l)
				if err != nil {
					return r, fmt.Errorf("accept: %w", err)
				}
				if err := watch(ep, c); err != nil {
					return r, err
				}
				r.Count++
				continue
			}
			m, err := read(fd, b)
			if err != nil {
				return r, fmt.Errorf("read: %w", err)
			}
			if m == 0 {
				closeFD(fd)
				gone++
				continue
			}
			if _, err := write(fd, b); err != nil {
				return r, fmt.Errorf("write: %w", err)
			}
		}
	}
	return r, nil
}

func watch(ep, fd int) error {
	e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}
	_, err := call(unix.SYS_EPOLL_CTL, uintptr(ep), unix.EPOLL_CTL_ADD, uintptr(fd), uintptr(unsafe.Pointer(&e)), 0, 0)
	if err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

package main

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/bench/result"
)

// calls makes one system call again and again for o.time.
func calls(o *options) (result.Load, error) {
	f, err := theCall(o.call)
	if err != nil {
		return result.Load{}, err
	}
	const batch = 200
	var r result.Load
	start := time.Now()
	for time.Since(start) < o.time {
		for range batch {
			if err := f(); err != nil {
				return r, fmt.Errorf("%s: %w", o.call, err)
			}
		}
		r.Count += batch
	}
	r.Seconds = time.Since(start).Seconds()
	return r, nil
}

// theCall returns a function that makes the named system call once.
func theCall(name string) (func() error, error) {
	switch name {
	case "getppid":
		return func() error {
			_, err := call(unix.SYS_GETPPID, 0, 0, 0, 0, 0, 0)
			return err
		}, nil
	case "zero":
		fd, err := unix.Open("/dev/zero", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			return nil, fmt.Errorf("open /dev/zero: %w", err)
		}
		b := make([]byte, 1)
		return func() error {
			_, err := read(fd, b)
			return err
		}, nil
	case "getsockname":
		fd, err := socket(unix.SOCK_DGRAM)
		if err != nil {
			return nil, fmt.Errorf("socket: %w", err)
		}
		sa := new(sockaddr)
		n := new(uint32)
		return func() error {
			*n = uint32(unsafe.Sizeof(*sa))
			_, err := call(unix.SYS_GETSOCKNAME, uintptr(fd), uintptr(unsafe.Pointer(sa)), uintptr(unsafe.Pointer(n)), 0, 0, 0)
			return err
		}, nil
	}
	return nil, fmt.Errorf("no call %q", name)
}

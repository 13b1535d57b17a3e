package main

import (
	"errors"
	"fmt"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// kept are the capabilities that the daemon needs once it runs: devices,
// addresses, attaching and nftables; the maps; and ports below 1024.
var kept = []int{unix.CAP_NET_ADMIN, unix.CAP_BPF, unix.CAP_NET_BIND_SERVICE}

// dropCapabilities gives up all capabilities but kept, for good: also those
// that a program it might execute would have. The limit on open files is
// raised, and programs are loaded, before.
func dropCapabilities() error {
	for c := 0; c <= unix.CAP_LAST_CAP; c++ {
		if isKept(c) {
			continue
		}
		// EINVAL: this kernel has it not. EPERM: a service manager has left
		// no CAP_SETPCAP; with no_new_privs execve(2) gains nothing anyhow.
		if err := allThreads(unix.SYS_PRCTL, unix.PR_CAPBSET_DROP, uintptr(c)); err != nil &&
			!errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EPERM) {
			return fmt.Errorf("capability %d: %w", c, err)
		}
	}
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var have [2]unix.CapUserData
	if err := unix.Capget(&hdr, &have[0]); err != nil {
		return fmt.Errorf("capget: %w", err)
	}
	var keep [2]unix.CapUserData
	for _, c := range kept {
		keep[c/32].Permitted |= have[c/32].Permitted & (1 << (c % 32))
	}
	for i := range keep {
		keep[i].Effective = keep[i].Permitted
	}
	if err := allThreads(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&hdr)), uintptr(unsafe.Pointer(&keep[0]))); err != nil {
		return fmt.Errorf("capset: %w", err)
	}
	return allThreads(unix.SYS_PRCTL, unix.PR_SET_NO_NEW_PRIVS, 1)
}

func isKept(c int) bool {
	for _, k := range kept {
		if k == c {
			return true
		}
	}
	return false
}

// allThreads makes a call on every thread. A program linked with cgo cannot:
// ENOTSUP.
func allThreads(trap, a1, a2 uintptr) error {
	if _, _, e := syscall.AllThreadsSyscall(trap, a1, a2, 0); e != 0 {
		return e
	}
	return nil
}

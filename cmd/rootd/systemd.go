package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// firstFD is SD_LISTEN_FDS_START of sd_listen_fds(3).
const firstFD = 3

// listen takes the socket that systemd has made, or makes one at path, which
// every user may connect to: the policy decides about them.
func listen(path string) (*net.UnixListener, error) {
	if l, err := activated(); l != nil || err != nil {
		return l, err
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: path, Net: "unixpacket"})
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	if err := os.Chmod(path, 0o666); err != nil { //nolint:gosec // see above
		return nil, errors.Join(fmt.Errorf("socket: %w", err), l.Close())
	}
	return l, nil
}

// removeStale removes the socket of a daemon that is gone. The lock says that
// it is.
func removeStale(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	if fi.Mode().Type() != os.ModeSocket {
		return fmt.Errorf("socket: %s is something else", path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	return nil
}

// activated returns the listener that came with the process
// (sd_listen_fds(3)); nil where none did.
func activated() (*net.UnixListener, error) {
	pid, fds := os.Getenv("LISTEN_PID"), os.Getenv("LISTEN_FDS")
	for _, name := range []string{"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"} {
		_ = os.Unsetenv(name)
	}
	if pid != strconv.Itoa(os.Getpid()) || fds == "" {
		return nil, nil
	}
	if fds != "1" {
		return nil, fmt.Errorf("socket activation: %s sockets instead of one", fds)
	}
	unix.CloseOnExec(firstFD)
	if typ, err := unix.GetsockoptInt(firstFD, unix.SOL_SOCKET, unix.SO_TYPE); err != nil || typ != unix.SOCK_SEQPACKET {
		return nil, errors.New("socket activation: not a SOCK_SEQPACKET socket (ListenSequentialPacket=)")
	}
	f := os.NewFile(firstFD, "rootd.sock")
	defer func() { _ = f.Close() }()
	nl, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("socket activation: %w", err)
	}
	l, ok := nl.(*net.UnixListener)
	if !ok {
		return nil, errors.New("socket activation: not an AF_UNIX socket")
	}
	l.SetUnlinkOnClose(false) // it is systemd's
	return l, nil
}

// notify tells the service manager (sd_notify(3)), if there is one.
func notify(state string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	defer func() { _ = c.Close() }()
	if _, err := c.Write([]byte(state)); err != nil {
		return fmt.Errorf("notify: %w", err)
	}
	return nil
}

// lock makes sure that there is one daemon for each socket. The lock goes with
// the process; a daemon that ends in order removes the file first, so the one
// that is locked has to be the one that is there.
func lock(socket string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(socket), 0o755); err != nil { //nolint:gosec // clients pass through
		return nil, err
	}
	name := socket + ".lock"
	for {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, err
		}
		if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			return nil, errors.Join(fmt.Errorf("another rootd runs for %s: %w", socket, err), f.Close())
		}
		mine, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		if there, err := os.Stat(name); err == nil && os.SameFile(mine, there) {
			return f, nil
		}
		_ = f.Close()
	}
}

package tun

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/link"
)

// clonePath is the device whose open descriptors become TUN and TAP devices.
const clonePath = "/dev/net/tun"

// tunModeOffloads is what the kernel may leave undone in what it sends us.
const tunModeOffloads = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN

// Open attaches to the device name of the given kind, or creates it where that
// is permitted; a device that it creates is set up and disappears at Close.
//
// A device to attach to is made by `ip tuntap add dev NAME mode tun user USER`,
// after which USER needs no privilege. Errors wrap unix.EPERM, EBUSY, EINVAL or
// fs.ErrNotExist (no /dev/net/tun), with advice.
func Open(name string, kind Kind, opts Options) (link.Link, error) {
	fail := func(err error) (link.Link, error) { return nil, fmt.Errorf("%v:%s: %w", kind, name, err) }
	if kind != TUN && kind != TAP {
		return fail(fmt.Errorf("kind %d: %w", int(kind), unix.EINVAL))
	}
	if name == "" || len(name) >= unix.IFNAMSIZ {
		return fail(fmt.Errorf("an interface name has 1 to %d characters: %w", unix.IFNAMSIZ-1, unix.EINVAL))
	}
	fd, err := unix.Open(clonePath, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		err = &fs.PathError{Op: "open", Path: clonePath, Err: err}
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: the kernel has no tun module loaded (try `modprobe tun`)", err)
		}
		return fail(err)
	}
	_, err = ifindex(name)
	existed := err == nil
	real, err := attach(fd, name, kind)
	if err != nil {
		_ = unix.Close(fd)
		return fail(explain(err, name, kind, existed))
	}
	if !existed {
		err = configure(real, &opts)
	}
	var l *Link
	if err == nil {
		l, err = newLink(fd, opts, deviceMTU(real))
	}
	if err != nil {
		_ = unix.Close(fd)
		return fail(err)
	}
	return l, nil
}

// OpenFD makes a link of fd, an open TUN or TAP descriptor made elsewhere (and
// handed over, say). It must have IFF_NO_PI, which cannot be checked: the kernel
// answers TUNGETIFF with IFF_NOFILTER, the same bit. Offloads are used if it has
// IFF_VNET_HDR. The device may be in another network namespace, where its MTU
// cannot be seen: then opts.MTU says it. On success the link owns fd; after an
// error it is still the caller's.
func OpenFD(fd int, opts Options) (link.Link, error) {
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, fmt.Errorf("tun descriptor %d: %w", fd, err)
	}
	l, err := newLink(fd, opts, opts.MTU)
	if err != nil {
		return nil, fmt.Errorf("tun descriptor %d: %w", fd, err)
	}
	return l, nil
}

// attach is TUNSETIFF, with packet information off and vnet headers on. It
// returns the device's name, which the kernel completes ("tun%d").
func attach(fd int, name string, kind Kind) (string, error) {
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return "", err
	}
	flags := uint16(unix.IFF_TUN)
	if kind == TAP {
		flags = unix.IFF_TAP
	}
	flags |= unix.IFF_NO_PI | unix.IFF_VNET_HDR
	ifr.SetUint16(flags)
	err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	if errors.Is(err, unix.EINVAL) {
		// A device made with multi_queue is only opened with that flag.
		ifr.SetUint16(flags | unix.IFF_MULTI_QUEUE)
		if unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr) == nil {
			return ifr.Name(), nil
		}
	}
	return ifr.Name(), err
}

// explain adds to an error of TUNSETIFF what it means and what to do.
func explain(err error, name string, kind Kind, existed bool) error {
	create := fmt.Sprintf("`ip tuntap add dev %s mode %v user $USER`", name, kind)
	switch {
	case errors.Is(err, unix.EPERM) && existed:
		return fmt.Errorf("%w: the device belongs to another user: create it with %s", err, create)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: there is no such device, and creating it takes CAP_NET_ADMIN: create it with %s", err, create)
	case errors.Is(err, unix.EBUSY):
		return fmt.Errorf("%w: another process has the device open", err)
	case errors.Is(err, unix.EINVAL) && existed:
		return fmt.Errorf("%w: the device is not a %v device", err, kind)
	}
	return fmt.Errorf("TUNSETIFF: %w", err)
}

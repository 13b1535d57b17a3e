package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"

	"github.com/alptrace/alptrace/lab/lan"
	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/capture"
	"github.com/alptrace/alptrace/link/impair"
	"github.com/alptrace/alptrace/link/tun"
	"github.com/alptrace/alptrace/link/wire"
)

// bridge runs a program with the kernel's TCP, in the network namespace that it
// is started in, on a wire of alptraces: a tap device is the namespace's end of
// it.
type bridge struct{ wire, addr, impair, pcap string }

func (b *bridge) run(argv []string) (err error) {
	if len(argv) == 0 {
		return errors.New("bridge: no program")
	}
	cidr, err := netip.ParsePrefix(b.addr)
	if err != nil {
		return err
	}
	w, err := wire.Open(b.wire, wire.Options{Promiscuous: true})
	if err != nil {
		return err
	}
	tap, err := tun.Open("wire0", tun.TAP, tun.Options{HostAddrs: []netip.Prefix{cidr}})
	if err != nil {
		return errors.Join(err, w.Close())
	}
	port, done, err := b.wrap(tap)
	if err != nil {
		return errors.Join(err, w.Close(), tap.Close())
	}
	if _, err := lan.New([]link.Link{w, port}, nil); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close(), port.Close(), done()) }()
	c := exec.Command(argv[0], argv[1:]...)
	c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
	return c.Run()
}

// wrap puts the capture and the impairment around the tap: the capture sees what
// the kernel does, as that of alptrace sees what its stack does.
func (b *bridge) wrap(l link.Link) (link.Link, func() error, error) {
	done := func() error { return nil }
	if b.pcap != "" {
		f, err := os.Create(b.pcap)
		if err != nil {
			return nil, nil, err
		}
		if l, err = capture.Wrap(l, f, capture.Options{}); err != nil {
			return nil, nil, errors.Join(err, f.Close())
		}
		done = f.Close
	}
	if b.impair != "" {
		spec, err := impair.Parse(b.impair)
		if err != nil {
			return nil, nil, fmt.Errorf("--impair: %w", err)
		}
		if l, err = impair.Wrap(l, impair.Config{In: spec, Out: spec}); err != nil {
			return nil, nil, err
		}
	}
	return l, done, nil
}

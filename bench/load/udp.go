package main

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/bench/result"
)

// lastDatagrams is how many one-byte datagrams, one every 20 ms, tell the sink
// that the source has done: any may be lost, all that come to a queue which is
// still full.
const lastDatagrams = 50

// openUDP binds to o.listen; it connects to o.peer unless addresses are to be
// given with each datagram.
func openUDP(o *options) (fd int, to *sockaddr, err error) {
	local, err := parseAddr(o.listen)
	if err != nil {
		return -1, nil, err
	}
	peer, err := parseAddr(o.peer)
	if err != nil {
		return -1, nil, err
	}
	fd, err = socket(unix.SOCK_DGRAM)
	if err != nil {
		return -1, nil, fmt.Errorf("socket: %w", err)
	}
	if err := bind(fd, local); err != nil {
		return -1, nil, fmt.Errorf("bind %s: %w", o.listen, err)
	}
	if o.addr {
		return fd, peer, nil
	}
	if err := connect(fd, peer); err != nil {
		return -1, nil, fmt.Errorf("connect %s: %w", o.peer, err)
	}
	return fd, nil, nil
}

// udpSource sends datagrams of o.size bytes for o.time, as fast as it can, and
// counts those that were taken.
func udpSource(o *options) (result.Load, error) {
	fd, to, err := openUDP(o)
	if err != nil {
		return result.Load{}, err
	}
	buf := make([]byte, o.size)
	var r result.Load
	start := time.Now()
	for time.Since(start) < o.time {
		_, err := sendto(fd, buf, to)
		switch {
		case err == nil:
			r.Count++
			r.Bytes += int64(o.size)
		case refused(err), errors.Is(err, unix.ENOBUFS):
		default:
			return r, fmt.Errorf("sendto %s: %w", o.peer, err)
		}
	}
	r.Seconds = time.Since(start).Seconds()
	for range lastDatagrams {
		time.Sleep(20 * time.Millisecond)
		if _, err := sendto(fd, buf[:1], to); refused(err) {
			break // the sink has ended
		}
	}
	return r, nil
}

// udpSink counts datagrams of o.size bytes, from the first to the last, until
// a shorter one comes.
func udpSink(o *options) (result.Load, error) {
	fd, _, err := openUDP(o)
	if err != nil {
		return result.Load{}, err
	}
	ready()
	var from *sockaddr
	if o.addr {
		from = new(sockaddr)
	}
	buf := make([]byte, 2048)
	var r result.Load
	var first, last time.Time
	for {
		n, err := recvfrom(fd, buf, from)
		if err != nil {
			return r, fmt.Errorf("recvfrom: %w", err)
		}
		if n != o.size {
			break
		}
		last = time.Now()
		if r.Count == 0 {
			first = last
		}
		r.Count++
		r.Bytes += int64(n)
	}
	r.Seconds = last.Sub(first).Seconds()
	return r, nil
}

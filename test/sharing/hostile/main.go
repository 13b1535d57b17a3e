// Hostile is a client of rootd that does what it may not. A test runs it as a
// user without privilege and orders it about over its standard input.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/rootd/proto"
	"github.com/alptrace/alptrace/test/sharing/hostile/order"
)

const vnetLen = 10

func main() {
	var c client
	in := json.NewDecoder(bufio.NewReader(os.Stdin))
	out := json.NewEncoder(os.Stdout)
	for {
		var o order.Order
		if err := in.Decode(&o); err != nil {
			return
		}
		if err := out.Encode(c.do(&o)); err != nil {
			return
		}
	}
}

// lease is a device, and the connection if it is this client's own.
type lease struct {
	conn *proto.Conn
	file *os.File
	kept []int // duplicates

	mu  sync.Mutex
	got [][]byte
}

type client struct {
	leases []*lease
	bound  []io.Closer
}

// fail is the answer to what did not go well.
func fail(err error) order.Answer {
	var errno syscall.Errno
	if !errors.As(err, &errno) {
		errno = unix.EPROTO
	}
	return order.Answer{Errno: errno, Text: err.Error()}
}

func (c *client) do(o *order.Order) order.Answer {
	switch o.Op {
	case order.Lease:
		return c.begin(o)
	case order.Take:
		return c.take(o)
	case order.Say:
		return say(o)
	case order.Flood:
		return flood(o)
	case order.Slow:
		return slow(o)
	case order.Touch:
		return touch(o.Path)
	case order.Bind:
		return c.bind(o)
	case order.Steal:
		return steal(o.Path)
	}
	if o.Lease < 0 || o.Lease >= len(c.leases) {
		return fail(fmt.Errorf("no lease %d: %w", o.Lease, unix.EBADF))
	}
	l := c.leases[o.Lease]
	switch o.Op {
	case order.Grant:
		return results(l.conn.Grant(o.Items))
	case order.Release:
		return results(l.conn.Release(o.Items))
	case order.Send:
		return l.send(o.Packets)
	case order.Received:
		l.mu.Lock()
		defer l.mu.Unlock()
		a := order.Answer{Packets: l.got}
		l.got = nil
		return a
	case order.Keep:
		return l.keep()
	case order.End:
		_ = l.conn.Close()
		return order.Answer{}
	case order.Give:
		return l.give(o.Path)
	}
	return fail(fmt.Errorf("order %q: %w", o.Op, unix.EINVAL))
}

func results(rs []proto.Result, err error) order.Answer {
	if err != nil {
		return fail(err)
	}
	return order.Answer{Results: rs}
}

func (c *client) begin(o *order.Order) order.Answer {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := proto.Dial(ctx, o.Path)
	if err != nil {
		return fail(err)
	}
	w, err := conn.Hello("hostile")
	if err != nil {
		_ = conn.Close()
		return fail(err)
	}
	return order.Answer{Lease: c.add(&lease{conn: conn, file: w.File}), Device: w.Device}
}

// add takes up a lease and reads its device from now on.
func (c *client) add(l *lease) int {
	c.leases = append(c.leases, l)
	go func() {
		buf := make([]byte, 1<<17)
		for {
			n, err := l.file.Read(buf)
			if err != nil {
				return
			}
			l.mu.Lock()
			if n > vnetLen && len(l.got) < 20000 {
				l.got = append(l.got, append([]byte{}, buf[vnetLen:n]...))
			}
			l.mu.Unlock()
		}
	}()
	return len(c.leases) - 1
}

// send writes packets, to the device and to every duplicate of it.
func (l *lease) send(packets [][]byte) (a order.Answer) {
	for _, p := range packets {
		_, err := l.file.Write(p)
		a.Errnos = append(a.Errnos, fail(errOr(err)).Errno)
		for _, fd := range l.kept {
			_, err := unix.Write(fd, p)
			a.Errnos = append(a.Errnos, fail(errOr(err)).Errno)
		}
	}
	return a
}

// errOr makes a success an errno, of 0.
func errOr(err error) error {
	if err == nil {
		return syscall.Errno(0)
	}
	return err
}

func (c *client) bind(o *order.Order) order.Answer {
	var s io.Closer
	var err error
	if o.Path == "udp" {
		s, err = net.ListenPacket("udp", o.Addr)
	} else {
		s, err = net.Listen("tcp", o.Addr)
	}
	if err != nil {
		return fail(err)
	}
	c.bound = append(c.bound, s)
	return order.Answer{}
}

package sim

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/stack"
)

// datagrams is the client of a UDP flow: onoff sends at a rate in bursts, echo
// sends a message now and then that comes back. Each begins with its number and
// the time at which it was sent, 16 bytes; the rest is the pattern.
type datagrams struct {
	flow    *flow
	ep      stack.Endpoint
	task    task
	timer   *Timer
	next    uint64        // number
	limit   uint64        // 0: none
	until   time.Duration // end of the burst
	pausing bool          // the timer ends a pause
	gap     time.Duration // between datagrams
	size    int
	msg     stack.Message
	seen    uint64 // number of the last one back, or arrived
}

const stampLen = 16

// startDatagrams makes the client.
func (f *flow) startDatagrams() {
	d := &datagrams{flow: f}
	f.datagrams = d
	family := unix.AF_INET
	if f.dst.IP.Is6() {
		family = unix.AF_INET6
	}
	ep, err := f.from.Engine.Socket(family, unix.SOCK_DGRAM, 0)
	if err == 0 {
		d.ep = ep
		err = ep.Connect(f.dst)
	}
	if err != 0 {
		f.fail("connect", err)
		return
	}
	d.task = task{host: f.from, run: d.receive}
	ep.Notify(d.task.wake)
	t := f.spec
	if t.Kind == "onoff" {
		d.size = int(orDefault(t.Request, defaultDatagram))
		d.gap = time.Duration(int64(d.size) * 8 * int64(time.Second) / t.Rate)
	} else {
		d.size = int(orDefault(t.Request, defaultMessage))
		d.gap = orDefaultTime(t.Interval, time.Second)
	}
	d.size = min(max(d.size, stampLen), 65507-40)
	if t.Bytes > 0 {
		d.limit = uint64((t.Bytes + int64(d.size) - 1) / int64(d.size))
	}
	d.timer = f.sim.clock.timer(func() { d.tick(); f.from.settled() })
	d.pausing = true
	d.tick()
}

func orDefaultTime(d, def time.Duration) time.Duration {
	if d == 0 {
		return def
	}
	return d
}

// burst decides how long the next burst lasts.
func (d *datagrams) burst() {
	t := d.flow.spec
	d.until = never
	if t.Kind == "onoff" && t.Off > 0 {
		d.until = d.flow.sim.clock.now + d.mean(orDefaultTime(t.On, time.Second))
	}
}

// mean is a random time of the exponential distribution.
func (d *datagrams) mean(m time.Duration) time.Duration {
	return time.Duration(float64(m) * d.flow.rnd.exponential())
}

// tick sends a datagram, and sets the time of the next.
func (d *datagrams) tick() {
	f := d.flow
	now := f.sim.clock.now
	if d.pausing {
		d.pausing = false
		d.burst()
	}
	switch {
	case f.over:
		return
	case f.stopped() || d.limit > 0 && d.next == d.limit:
		// What is on the way is given the time that a real program would.
		f.sim.clock.At(now+lastWait, func() { d.end(); f.from.settled() })
		return
	case now >= d.until:
		pause := d.mean(f.spec.Off)
		d.pausing = true
		d.timer.Set(now + pause)
		return
	}
	d.send(now)
	at := now + d.gap
	if f.spec.Stop > now {
		at = min(at, f.spec.Stop)
	}
	d.timer.Set(at)
}

// lastWait is how long the last datagram of a flow is waited for.
const lastWait = 2 * time.Second

func (d *datagrams) send(now time.Duration) {
	b := append(d.msg.Data[:0], pattern[:d.size]...)
	binary.LittleEndian.PutUint64(b, d.next)
	binary.LittleEndian.PutUint64(b[8:], uint64(now))
	d.msg.Data = b
	d.next++
	m := &d.flow.m
	m.sentMsgs++
	m.sent += int64(len(b))
	_, _ = d.ep.Send(&d.msg) // refused for once, or full: a datagram lost
}

// check notes a datagram that arrived, and reports whether it is as it was sent.
func (f *flow) check(b []byte, last *uint64) (sent time.Duration, ok bool) {
	if len(b) < stampLen || string(b[stampLen:]) != string(pattern[stampLen:len(b)]) {
		f.m.corrupt = fmt.Sprintf("a datagram of %d bytes is wrong", len(b))
		return 0, false
	}
	n := binary.LittleEndian.Uint64(b)
	if n+1 < *last {
		f.m.reordered++
	}
	*last = max(*last, n+1)
	return time.Duration(binary.LittleEndian.Uint64(b[8:])), true
}

// receive takes what comes back.
func (d *datagrams) receive() {
	var m stack.Message
	for !d.flow.over {
		if err := d.ep.Recv(&m); err == unix.EAGAIN {
			return
		} else if err != 0 { // an ICMP error, which the call has cleared
			continue
		}
		if sent, ok := d.flow.check(m.Data, &d.seen); ok {
			d.flow.m.rtt.add(d.flow.sim.clock.now - sent)
			d.flow.m.returned += int64(len(m.Data))
		}
	}
}

// end closes the client, and has the flow complete.
func (d *datagrams) end() {
	d.ep.Notify(nil)
	d.ep.Close()
	d.flow.finish("")
}

// receive takes datagrams, and returns those of an echo.
func (l *listener) receive() {
	var m stack.Message
	for {
		if err := l.ep.Recv(&m); err == unix.EAGAIN {
			return
		} else if err != 0 {
			continue
		}
		f := l.peer(m.Addr)
		if f == nil {
			continue
		}
		sent, ok := f.check(m.Data, &f.seen)
		if !ok {
			continue
		}
		f.got()
		f.m.gotMsgs++
		f.m.received += int64(len(m.Data))
		if f.spec.Kind == "onoff" {
			f.m.latency.add(f.sim.clock.now - sent)
			continue
		}
		m.HasAddr, m.Control = true, nil
		_, _ = l.ep.Send(&m)
	}
}

// peer is the flow of a client.
func (l *listener) peer(a stack.Addr) *flow {
	k := netip.AddrPortFrom(a.IP.Unmap(), a.Port)
	if f, ok := l.peers[k]; ok {
		return f
	}
	f := l.flowOf(a, func(f *flow) (stack.Addr, bool) {
		if f.datagrams == nil || f.datagrams.ep == nil {
			return stack.Addr{}, false
		}
		return f.datagrams.ep.LocalAddr(), true
	}, func(f *flow) bool { return f.served || f.over })
	if f != nil {
		f.served = true
		l.peers[k] = f
	}
	return f
}

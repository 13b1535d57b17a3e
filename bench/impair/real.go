package main

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/impair"
)

// meter is a link to nowhere, that tells of what is sent.
type meter struct {
	sent func(pkts []link.Packet)
}

func (meter) Name() string                   { return "meter" }
func (meter) Medium() link.Medium            { return link.IP }
func (meter) MTU() int                       { return 1500 }
func (meter) HardwareAddr() net.HardwareAddr { return nil }
func (meter) Features() link.Features {
	return link.Features{Csum: true, TSO: true, GSOMax: link.MaxPacket}
}
func (meter) Start(func([]link.Packet)) error     { return nil }
func (meter) Close() error                        { return nil }
func (m meter) Send(p []link.Packet) (int, error) { m.sent(p); return len(p), nil }

// metered is an impaired link on a meter.
func metered(spec string, sent func(pkts []link.Packet)) (l *impair.Link, s impair.Spec, err error) {
	if s, err = impair.Parse(spec); err != nil {
		return nil, s, err
	}
	w, err := impair.Wrap(meter{sent}, impair.Config{Out: s})
	if err != nil {
		return nil, s, err
	}
	return w.(*impair.Link), s, nil
}

// large is a TCP packet over IPv4 still to be cut into packets of 1500 bytes.
func large(segments int) link.Packet {
	b := make([]byte, 40+1460*segments)
	b[0], b[8], b[9], b[32], b[33] = 0x45, 64, 6, 0x50, 0x10
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	copy(b[12:], []byte{10, 0, 0, 1, 10, 0, 0, 2})
	return link.Packet{Bufs: [][]byte{b}, Offload: link.Offload{
		NeedsCsum: true, CsumStart: 20, CsumOffset: 16, GSO: link.GSOTCP4, GSOSize: 1460, HdrLen: 40}}
}

// rates keeps the queue full, and times what comes out: packets of 1500 bytes,
// and large ones that are cut.
func rates(m *measurement, length time.Duration) ([]row, error) {
	var rows []row
	for _, load := range []struct {
		what string
		p    link.Packet
	}{{"Mbit/s, of 1500 bytes", link.Packet{Bufs: [][]byte{udp(1500, 1)}}}, {"Mbit/s, of 60 kB, cut", large(41)}} {
		got, asked, err := rate(m.spec, &load.p, length)
		if err != nil {
			return nil, err
		}
		rows = append(rows, near(load.what, "%.3f", asked/1e6, got/1e6, 0.02))
	}
	return rows, nil
}

func rate(spec string, p *link.Packet, length time.Duration) (got, asked float64, err error) {
	const settle = 100 * time.Millisecond
	var mu sync.Mutex
	var bits int
	var first, last time.Duration
	start := time.Now()
	l, s, err := metered(spec+" queue=100mb", func(pkts []link.Packet) {
		now := time.Since(start)
		mu.Lock()
		defer mu.Unlock()
		if now < settle || now > length {
			return
		}
		if last = now; first == 0 { // what began before does not count
			first = now
			return
		}
		for i := range pkts {
			// What was cut and joined again has been sent with its headers.
			n := pkts[i].Len()
			if size, hdr := int(pkts[i].GSOSize), int(pkts[i].HdrLen); size > 0 {
				n += hdr * ((n-hdr+size-1)/size - 1)
			}
			bits += 8 * n
		}
	})
	if err != nil {
		return 0, 0, err
	}
	defer l.Close()
	most := int(s.Rate/80) + 10*p.Len() // 100 ms
	for time.Since(start) < length {
		for n := most - l.Stats(impair.Out).QueueBytes; n > 0; n -= p.Len() {
			if _, err := l.Send([]link.Packet{*p}); err != nil {
				return 0, 0, err
			}
		}
		time.Sleep(time.Millisecond)
	}
	mu.Lock()
	defer mu.Unlock()
	return float64(bits) / (last - first).Seconds(), float64(s.Rate), nil
}

// maxLate is how late a packet in a hundred may be.
const maxLate = 200 * time.Microsecond

// delays measures the delay of packets that come with different rates.
func delays(m *measurement, length time.Duration) ([]row, error) {
	var rows []row
	for _, load := range []struct {
		what       string
		size, rate int // bytes, packets a second
	}{{"a packet a ms", 200, 1000}, {"100 Mbit/s", 1500, 8333}, {"1 Gbit/s", 1500, 83_333}} {
		late, slept, err := delay(m.spec, load.size, load.rate, length)
		if err != nil {
			return nil, err
		}
		r := row{what: load.what, got: late.String(), allowed: fmt.Sprintf("p99 ≤ %.1f ms", ms(maxLate)), asked: "0", verdict: good}
		switch {
		case late.P99 <= maxLate && late.Min >= 0:
		case late.Min >= 0 && slept.P99 > maxLate/2:
			r.verdict = machine
		default:
			r.verdict = missed
		}
		r.note = slept.String()
		rows = append(rows, r)
	}
	return rows, nil
}

// lateness is a distribution of how late something was.
type lateness struct{ Min, P50, P99, Max time.Duration }

func latenessOf(d []time.Duration) lateness {
	slices.Sort(d)
	return lateness{d[0], d[len(d)/2], d[len(d)*99/100], d[len(d)-1]}
}

func (l lateness) String() string {
	return fmt.Sprintf("p50 %.3f, p99 %.3f, max %.3f ms", ms(l.P50), ms(l.P99), ms(l.Max))
}

// delay sends packets for a while, and returns how late they came, and how late
// another process's sleep was meanwhile.
func delay(spec string, size, rate int, length time.Duration) (late, slept lateness, err error) {
	start := time.Now()
	total := int(int64(rate) * int64(length) / int64(time.Second))
	var mu sync.Mutex
	got := make([]time.Duration, 0, total)
	done := make(chan struct{})
	var asked time.Duration
	l, s, err := metered(spec, func(pkts []link.Packet) {
		now := time.Since(start)
		mu.Lock()
		defer mu.Unlock()
		for i := range pkts {
			sent := time.Duration(binary.BigEndian.Uint64(pkts[i].Bufs[0][seqAt+4:]))
			if got = append(got, now-sent-asked); len(got) == total {
				close(done)
			}
		}
	})
	if err != nil {
		return late, slept, err
	}
	defer l.Close()
	mu.Lock()
	asked = s.Delay
	mu.Unlock()
	other, err := startSleeper()
	if err != nil {
		return late, slept, err
	}
	defer other.kill()
	b := udp(size, 1)
	pkt := []link.Packet{{Bufs: [][]byte{b}}}
	for i, began := 0, time.Since(start); i < total; i++ {
		for i >= int(int64(rate)*int64(time.Since(start)-began)/1e9)+1 {
			time.Sleep(min(time.Second/time.Duration(rate), 500*time.Microsecond))
		}
		binary.BigEndian.PutUint64(b[seqAt+4:], uint64(time.Since(start)))
		_, _ = l.Send(pkt)
	}
	select {
	case <-done:
	case <-time.After(s.Delay + 10*time.Second):
		return late, slept, fmt.Errorf("not all of %d packets arrive", total)
	}
	slept, err = other.stop()
	return latenessOf(got), slept, err
}

// sleeper is another process that only sleeps.
type sleeper struct {
	cmd *exec.Cmd
	in  io.Closer
	out bytes.Buffer
}

func startSleeper() (*sleeper, error) {
	s := &sleeper{cmd: exec.Command("/proc/self/exe", "-sleep")}
	s.cmd.Stdout, s.cmd.Stderr = &s.out, os.Stderr
	var err error
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	return s, s.cmd.Start()
}

// stop ends it, and returns how late it was.
func (s *sleeper) stop() (l lateness, err error) {
	_ = s.in.Close()
	if err := s.cmd.Wait(); err != nil {
		return l, fmt.Errorf("the process that sleeps: %w", err)
	}
	return l, json.Unmarshal(s.out.Bytes(), &l)
}

// kill ends it, if it has not ended.
func (s *sleeper) kill() {
	if s.cmd.ProcessState == nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
	}
}

// sleep sleeps for a millisecond again and again until the input ends, and prints
// how late it was: what the machine does to any process that waits.
func sleep(in io.Reader, w io.Writer) error {
	var ended atomic.Bool
	go func() {
		_, _ = io.Copy(io.Discard, in)
		ended.Store(true)
	}()
	runtime.LockOSThread()
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("prctl: %w", err)
	}
	now := func() time.Duration {
		var t unix.Timespec
		_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t) // fails only for bad arguments
		return time.Duration(t.Nano())
	}
	var late []time.Duration
	for at := now(); !ended.Load() || len(late) == 0; {
		at += time.Millisecond
		t := unix.NsecToTimespec(int64(at))
		for unix.ClockNanosleep(unix.CLOCK_MONOTONIC, unix.TIMER_ABSTIME, &t, nil) == unix.EINTR {
		}
		late = append(late, now()-at)
	}
	return json.NewEncoder(w).Encode(latenessOf(late))
}

package tcptest

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/stack/tcp"
)

// Script runs the lines of a text on a connection.
//
// A script is lines of a time and an action, in packetdrill's manner. Times are
// seconds since the beginning, or, with +, since the line before. # begins a
// comment. Actions:
//
//	> SEGMENT         the connection sends it, at this time (within a millisecond)
//	< SEGMENT         the connection receives it
//	none              nothing has been sent that no line expects
//	connect           active open; the next line expects the SYN
//	listen            the next SYN that is received opens the connection
//	established [OPT] the first line: a connection in ESTABLISHED at time 0, after
//	                  a handshake with a round trip of 20 ms; 1460 bytes of MSS,
//	                  SACK and window scale 0 on the peer's side; OPT are words:
//	                  ts nosack wscale=N mss=N win=N passive
//	write N           N bytes; how many are taken is checked
//	urgent N          the same, the last byte urgent
//	read N            N bytes are read, as many as there are
//	shutdown, close, abort
//	set OPTION VALUE  noDelay, cork, quickack, keepalive, keepidle, keepintvl,
//	                  keepcnt, usertimeout, sndbuf, rcvbuf, maxseg, linger2, rtomax, rtomin, delackmax,
//	                  fastopen, fastopenconnect: on
//	                  or off, numbers, or seconds
//	state NAME        the state is NAME (ESTABLISHED, ...)
//	error NAME        the connection ended with ECONNRESET, ...; 0 for none
//	readable N        so many bytes can be read
//	cwnd N, ssthresh N, mss N, ca NAME, pipe N
//	mtu N SEQ         an ICMP error: the packet with SEQ is larger than N
//	icmp NAME         another ICMP error, as its errno
//	NAME(...) = N     a call as packetdrill writes it: socket, bind, listen, accept,
//	                  connect, write, send, read, recv, shutdown, close, setsockopt,
//	                  getsockopt; its result is checked
//	%{ assert F == N }%  a field of tcp_info, in the kernel's units
//
// A SEGMENT is FLAGS [SEQ:END(LEN)] [ack N] [win N] [urg N] [ce|ect0|notect]
// [<OPTIONS>],
// with FLAGS as tcpdump writes them (S, F, R, P, "." for ACK, U, E, W; "-" for
// none). Sequence numbers count from the initial one of whose they are. What is
// not given of an expected segment is not checked; PSH only if it is given. The
// OPTIONS are mss N, sackOK, wscale N, TS VAL ECR, sack A:B..., FO COOKIE (in
// hexadecimal, none to ask for one; * is any), "nop" is
// ignored; of a timestamp * is any, and ECR -N is what our clock said N ms ago.
// The window is as in the header.
type Script struct {
	t     testing.TB
	cfg   *tcp.Config
	clock *Clock
	host  *Host
	out   []sent
	line  string
	start time.Duration
	at    time.Duration // of the line before

	linger        bool // close is an abort
	listening     bool
	haveISS       bool
	iss, peer     tcp.Seq // initial sequence numbers
	read, written int
}

type sent struct {
	at time.Duration
	s  *tcp.Segment
}

// peerISS is the initial sequence number of the scripts' segments.
const peerISS tcp.Seq = 0xfffff000

// peerAddr is the address that the scripts' segments are from.
var peerAddr = netip.MustParseAddr("192.0.2.1")

// Run runs a script on a connection of the configuration; nil is the default
// one, without timestamps.
func Run(t testing.TB, cfg *tcp.Config, text string) *Host {
	t.Helper()
	if cfg == nil {
		cfg = tcp.NewConfig()
		cfg.Timestamps = false
	}
	clock := NewClock()
	s := &Script{t: t, cfg: cfg, clock: clock, start: clock.Now(), at: clock.Now(), peer: peerISS}
	s.host = NewHost(clock, cfg, func(seg *tcp.Segment) {
		for _, p := range Cut(seg) {
			s.out = append(s.out, sent{clock.Now(), p})
		}
	})
	for n, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		if f := strings.Fields(line); len(f) > 0 {
			s.line = fmt.Sprintf("line %d: %s", n+1, strings.TrimSpace(line))
			s.do(f)
		}
	}
	s.line = "the end"
	s.none()
	return s.host
}

func (s *Script) fail(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf("%s: %s", s.line, fmt.Sprintf(format, args...))
}

// tolerance is by how much a segment may be late or early.
const tolerance = time.Millisecond

func (s *Script) do(f []string) {
	s.t.Helper()
	rel, base := strings.CutPrefix(f[0], "+")
	sec, err := strconv.ParseFloat(rel, 64)
	if err != nil {
		s.fail("want a time, have %q", f[0])
	}
	at := s.start + time.Duration(sec*1e9)
	if base {
		at = s.at + time.Duration(sec*1e9)
	}
	s.at = at
	if len(f) < 2 {
		s.fail("want an action")
	}
	if f[1] == ">" {
		s.expect(at, f[2:])
		return
	}
	s.clock.Run(max(at-s.clock.Now(), 0))
	switch f[1] {
	case "<":
		s.inject(f[2:])
	case "none":
		s.none()
	default:
		if !s.packetdrill(strings.Join(f[1:], " ")) {
			s.call(f[1], append(f[2:], ""))
		}
	}
}

func (s *Script) none() {
	s.t.Helper()
	if len(s.out) > 0 {
		s.fail("sent at %v: %s", s.out[0].at-s.start, s.format(s.out[0].s))
	}
}

// expect waits for a segment and compares it.
func (s *Script) expect(at time.Duration, f []string) {
	s.t.Helper()
	differs := func(why any, got string) {
		s.t.Helper()
		s.fail("%v\n\twant %v > %s\n\tgot  %s", why, at-s.start, strings.Join(f, " "), got)
	}
	if !s.clock.RunUntil(max(at+tolerance-s.clock.Now(), 0), func() bool { return len(s.out) > 0 }) {
		differs("nothing was sent", "nothing")
	}
	got := s.out[0]
	s.out = s.out[1:]
	if !s.haveISS {
		s.iss, s.haveISS = got.s.Seq, true
	}
	have := fmt.Sprintf("%v > %s", got.at-s.start, s.format(got.s))
	if d := got.at - at; d < -tolerance || d > tolerance {
		differs("another time", have)
	}
	if err := s.parse(f, true).match(got.s, s); err != nil {
		differs(err, have)
	}
}

// format writes a segment as scripts do.
func (s *Script) format(g *tcp.Segment) string {
	b := fmt.Sprintf("%s %d:%d(%d)", g.Flags, g.Seq.Sub(s.iss), g.Seq.Add(g.DataLen).Sub(s.iss), g.DataLen)
	if g.Flags&tcp.ACK != 0 {
		b += fmt.Sprintf(" ack %d", g.Ack.Sub(s.peer))
	}
	b += fmt.Sprintf(" win %d", g.Window)
	o := &g.Options
	var list []string
	if o.Has&tcp.HasMSS != 0 {
		list = append(list, fmt.Sprint("mss ", o.MSS))
	}
	if o.Has&tcp.HasSACKPermitted != 0 {
		list = append(list, "sackOK")
	}
	if o.Has&tcp.HasTimestamps != 0 {
		list = append(list, fmt.Sprintf("TS %d %d", o.TSVal, o.TSEcr))
	}
	if o.Has&tcp.HasWScale != 0 {
		list = append(list, fmt.Sprint("wscale ", o.WScale))
	}
	if o.NSACK > 0 {
		k := "sack"
		for _, r := range o.SACK[:o.NSACK] {
			k += fmt.Sprintf(" %d:%d", r.Start.Sub(s.peer), r.End.Sub(s.peer))
		}
		list = append(list, k)
	}
	if len(list) > 0 {
		b += " <" + strings.Join(list, ",") + ">"
	}
	return b
}

func (s *Script) call(name string, arg []string) {
	s.t.Helper()
	h := s.host
	num := func() int {
		n, err := strconv.Atoi(arg[0])
		if err != nil {
			s.fail("want a number, have %q", arg[0])
		}
		return n
	}
	same := func(got, want any) {
		s.t.Helper()
		if got != want {
			s.fail("it is %v", got)
		}
	}
	switch name {
	case "connect":
		h.ConnectTo(peerAddr, 1000, 80, 7000, Path)
	case "listen":
		s.listening = true
	case "established":
		s.establish(arg)
	case "write", "urgent":
		n := num()
		src := &source{s.written, s.written + n}
		var k int
		if name == "write" {
			k = h.Write(src)
		} else {
			k = h.WriteUrgent(src)
		}
		s.written += k
		same(k, n)
	case "read":
		n := num()
		w := &Stream{Read: s.read, ReadLimit: n}
		got := 0
		for got < n {
			w.ReadLimit = n - got
			k := h.Conn.Read(w)
			if k == 0 {
				break
			}
			got += k
		}
		if s.read = w.Read; w.Err != nil {
			s.fail("%v", w.Err)
		}
		same(got, n)
	case "shutdown":
		h.Shutdown()
	case "close":
		h.Close()
	case "abort":
		h.Abort()
	case "set":
		s.set(arg)
	case "state":
		same(h.State().String(), arg[0])
	case "error":
		e := "0"
		if h.Err() != 0 {
			e = unix.ErrnoName(h.Err())
		}
		same(e, arg[0])
	case "readable":
		same(h.Readable(), num())
	case "cwnd":
		same(h.Info().Cwnd, num())
	case "ssthresh":
		same(h.Info().Ssthresh, num())
	case "mss":
		same(h.Info().SndMSS, num())
	case "pipe":
		same(h.Info().Pipe, num())
	case "ca":
		same(h.Info().CA.String(), arg[0])
	case "mtu":
		seq, _ := strconv.Atoi(arg[1])
		h.PacketTooBig(num(), s.iss.Add(seq))
	case "icmp":
		for e := unix.Errno(1); e < 200; e++ {
			if unix.ErrnoName(e) == arg[0] {
				h.SoftError(e)
			}
		}
	default:
		s.fail("no such action")
	}
}

func (s *Script) set(arg []string) {
	s.t.Helper()
	h, on := s.host, arg[1] == "on"
	n, _ := strconv.ParseFloat(arg[1], 64)
	d := time.Duration(n * 1e9)
	switch strings.ToLower(arg[0]) {
	case "nodelay":
		h.SetNoDelay(on)
	case "cork":
		h.SetCork(on)
	case "quickack":
		h.SetQuickAck(on)
	case "keepalive":
		h.SetKeepAlive(on)
	case "keepidle":
		h.SetKeepIdle(d)
	case "keepintvl":
		h.SetKeepInterval(d)
	case "keepcnt":
		h.SetKeepCount(int(n))
	case "usertimeout":
		h.SetUserTimeout(d)
	case "sndbuf":
		h.SetSendBuffer(int(n), true)
	case "rcvbuf":
		h.SetRecvBuffer(int(n), true)
	case "maxseg":
		h.SetMaxSeg(int(n))
	case "fastopen":
		h.SetFastOpen(int(n))
	case "fastopenconnect":
		h.SetFastOpenConnect(on)
	case "rtomax":
		h.SetMaxRTO(d)
	case "rtomin":
		h.SetMinRTO(d)
	case "delackmax":
		h.SetMaxDelayedAck(d)
	case "linger2":
		h.SetFINTimeout(d)
	default:
		s.fail("no such option")
	}
}

// establish does a handshake without delay.
func (s *Script) establish(words []string) {
	s.t.Helper()
	mss, win, scale := 1460, 65535, 0
	for _, w := range words {
		k, v, _ := strings.Cut(w, "=")
		n, _ := strconv.Atoi(v)
		switch k {
		case "mss":
			mss = n
		case "win":
			win = n
		case "wscale":
			scale = n
		}
	}
	opts := fmt.Sprintf("<mss %d,sackOK,wscale %d>", mss, scale)
	if slices.Contains(words, "nosack") {
		opts = fmt.Sprintf("<mss %d,wscale %d>", mss, scale)
	}
	echo := ""
	if slices.Contains(words, "ts") {
		s.cfg.Timestamps = true
		opts = strings.TrimSuffix(opts, ">") + ",TS 1 -0>"
		echo = "<TS 1 -0>"
	}
	if slices.Contains(words, "passive") {
		s.listening = true
		s.inject(strings.Fields("S 0:0(0) win 65535 " + strings.Replace(opts, "-0", "0", 1)))
		s.expect(s.clock.Now(), []string{"S."})
		s.pause()
		s.inject(strings.Fields(fmt.Sprintf(". 1:1(0) ack 1 win %d %s", win, echo)))
		return
	}
	s.host.Connect(1000, 80, 7000, Path)
	s.expect(s.clock.Now(), []string{"S"})
	s.pause()
	s.inject(strings.Fields(fmt.Sprintf("S. 0:0(0) ack 1 win %d %s", win, opts)))
	s.expect(s.clock.Now(), []string{"."})
}

// pause lets the handshake's round trip pass; the script begins after it.
func (s *Script) pause() {
	s.clock.Run(20 * time.Millisecond)
	s.start = s.clock.Now()
	s.at = s.start
}

// WithCookie replaces GOOD in a script by the cookie that a listener of the
// configuration gives to who sends the scripts' segments.
func WithCookie(cfg *tcp.Config, script string) string {
	var cookie []byte
	h := NewHost(NewClock(), cfg, func(g *tcp.Segment) { cookie = append([]byte(nil), g.Options.FastOpen...) })
	h.SetFastOpen(1)
	syn := &tcp.Segment{Flags: tcp.SYN, Options: tcp.Options{Has: tcp.HasFastOpen}}
	h.OpenPassiveFrom(peerAddr, true, syn, 1, Path)
	return strings.ReplaceAll(script, "GOOD", fmt.Sprintf("%x", cookie))
}

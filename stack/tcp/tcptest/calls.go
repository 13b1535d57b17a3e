package tcptest

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/stack/tcp"
)

// Calls in packetdrill's notation: NAME(ARGUMENTS) = RESULT [ERRNO]. There is
// one connection, so descriptors are for the reader only.
var callText = regexp.MustCompile(`^(\w+)\((.*)\)\s*=\s*(-?\d+)(?:\s+(E\w+))?$`)

// packetdrill does a call or a check of tcp_info, if the text is one.
func (s *Script) packetdrill(text string) bool {
	s.t.Helper()
	if body, ok := strings.CutPrefix(text, "%{"); ok {
		s.assert(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(body), "}%")))
		return true
	}
	m := callText.FindStringSubmatch(text)
	if m == nil {
		return false
	}
	want := m[3]
	if m[4] != "" {
		want += " " + m[4]
	}
	if got := s.syscall(m[1], splitArgs(m[2])); got != want {
		s.fail("the call's result\n\twant %s\n\tgot  %s", want, got)
	}
	return true
}

// splitArgs cuts arguments at the commas outside of brackets.
func splitArgs(text string) []string {
	var list []string
	depth, from := 0, 0
	for i, c := range text {
		switch c {
		case '[', '{':
			depth++
		case ']', '}':
			depth--
		case ',':
			if depth == 0 {
				list = append(list, strings.TrimSpace(text[from:i]))
				from = i + 1
			}
		}
	}
	return append(list, strings.TrimSpace(text[from:]))
}

func failed(e unix.Errno) string { return "-1 " + unix.ErrnoName(e) }

// syscall does a call and gives its result as packetdrill writes it.
func (s *Script) syscall(name string, arg []string) string {
	s.t.Helper()
	h := s.host
	argument := func(i int) string {
		if i >= len(arg) {
			s.fail("%s: want argument %d", name, i+1)
		}
		return arg[i]
	}
	count := func(i int) int {
		n, err := strconv.Atoi(argument(i))
		if err != nil {
			s.fail("%s: want a number, have %q", name, arg[i])
		}
		return n
	}
	switch name {
	case "socket":
		return "3"
	case "bind":
		return "0"
	case "listen":
		s.listening = true
		return "0"
	case "connect":
		h.Connect(1000, 80, 7000, Path)
		return failed(unix.EINPROGRESS)
	case "accept":
		if h.State() == tcp.Closed || h.State() == tcp.SynReceived {
			return failed(unix.EAGAIN)
		}
		return "4"
	case "write", "send":
		return s.writeCall(count(2), len(arg) > 3 && strings.Contains(arg[3], "MSG_OOB"))
	case "read", "recv":
		return s.readCall(count(2))
	case "shutdown":
		if argument(1) != "SHUT_RD" {
			h.Shutdown()
		}
		return "0"
	case "close":
		if s.linger {
			h.Abort()
		} else {
			h.Close()
		}
		return "0"
	case "setsockopt":
		return s.setsockopt(argument(2), argument(3))
	case "getsockopt":
		if argument(2) != "SO_ERROR" {
			s.fail("getsockopt: SO_ERROR is all that there is")
		}
		got := "0"
		if e := h.Err(); e != 0 {
			got = unix.ErrnoName(e)
		}
		if want := strings.Trim(argument(3), "[]"); got != want {
			s.fail("SO_ERROR\n\twant %s\n\tgot  %s", want, got)
		}
		return "0"
	}
	s.fail("no call %s", name)
	return ""
}

func (s *Script) writeCall(n int, urgent bool) string {
	h := s.host
	if !h.CanWrite() {
		if e := h.Err(); e != 0 {
			return failed(e)
		}
		return failed(unix.EPIPE)
	}
	src := &source{s.written, s.written + n}
	var k int
	if urgent {
		k = h.WriteUrgent(src)
	} else {
		k = h.Write(src)
	}
	s.written += k
	if k == 0 && n > 0 {
		return failed(unix.EAGAIN)
	}
	return strconv.Itoa(k)
}

func (s *Script) readCall(n int) string {
	s.t.Helper()
	h := s.host
	w := &Stream{Read: s.read}
	got := 0
	for got < n && h.Readable() > 0 {
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
	switch {
	case got > 0 || n == 0:
		return strconv.Itoa(got)
	case h.Err() != 0:
		return failed(h.Err())
	case h.PeerClosed() || h.State() == tcp.Closed:
		return "0"
	}
	return failed(unix.EAGAIN)
}

// setsockopt sets an option by its name in C.
func (s *Script) setsockopt(name, value string) string {
	s.t.Helper()
	h := s.host
	value = strings.Trim(value, `[]"`)
	n, err := strconv.Atoi(value)
	if err != nil && name != "TCP_CONGESTION" && name != "SO_LINGER" {
		s.fail("%s: want a number, have %q", name, value)
	}
	seconds := time.Duration(n) * time.Second
	switch name {
	case "TCP_NODELAY":
		h.SetNoDelay(n != 0)
	case "TCP_CORK":
		h.SetCork(n != 0)
	case "TCP_QUICKACK":
		h.SetQuickAck(n != 0)
	case "SO_KEEPALIVE":
		h.SetKeepAlive(n != 0)
	case "TCP_KEEPIDLE":
		h.SetKeepIdle(seconds)
	case "TCP_KEEPINTVL":
		h.SetKeepInterval(seconds)
	case "TCP_KEEPCNT":
		h.SetKeepCount(n)
	case "TCP_USER_TIMEOUT":
		h.SetUserTimeout(time.Duration(n) * time.Millisecond)
	case "TCP_LINGER2":
		h.SetFINTimeout(seconds)
	case "TCP_SYNCNT":
		h.SetSYNRetries(n)
	case "TCP_DEFER_ACCEPT":
		h.SetDeferAccept(seconds)
	case "TCP_WINDOW_CLAMP":
		h.SetWindowClamp(n)
	case "TCP_MAXSEG":
		h.SetMaxSeg(n)
	case "SO_SNDBUF": // the kernel doubles both, socket(7)
		h.SetSendBuffer(2*n, true)
	case "SO_RCVBUF":
		h.SetRecvBuffer(2*n, true)
	case "SO_LINGER":
		s.linger = true
	case "TCP_CONGESTION":
		if e := h.SetCongestionControl(value); e != 0 {
			return failed(e)
		}
	default:
		s.fail("no option %s", name)
	}
	return "0"
}

var comparison = regexp.MustCompile(`^assert\s+(\w+)\s*(==|!=|<=|>=|<|>)\s*(-?\w+)$`)

// assert checks fields of tcp_info: "assert tcpi_snd_cwnd == 10 and ...".
func (s *Script) assert(text string) {
	s.t.Helper()
	for part := range strings.SplitSeq(strings.TrimPrefix(text, "assert "), " and ") {
		m := comparison.FindStringSubmatch("assert " + strings.TrimSpace(part))
		if m == nil {
			s.fail("want %%{ assert FIELD == NUMBER }%%, have %q", part)
		}
		got, err := s.field(m[1])
		if err != nil {
			s.fail("%v", err)
		}
		want, err := strconv.Atoi(m[3])
		for state := range tcp.Closing + 1 {
			if m[3] == "TCP_"+state.String() && state > 0 {
				want, err = int(state), nil
			}
		}
		for ca := range tcp.CALoss + 1 {
			if m[3] == "TCP_CA_"+ca.String() {
				want, err = int(ca), nil
			}
		}
		if err != nil {
			s.fail("%q is no number", m[3])
		}
		ok := map[string]bool{
			"==": got == want, "!=": got != want, "<=": got <= want, ">=": got >= want, "<": got < want, ">": got > want,
		}[m[2]]
		if !ok {
			s.fail("%s\n\twant %s %d\n\tgot  %d", m[1], m[2], want, got)
		}
	}
}

// field is a field of tcp_info, in the kernel's units: segments, microseconds.
func (s *Script) field(name string) (int, error) {
	i := s.host.Info()
	segments := func(n int) int { return (n + i.SndMSS - 1) / max(i.SndMSS, 1) }
	us := func(d time.Duration) int { return int(d / time.Microsecond) }
	v, ok := map[string]int{
		"tcpi_state": int(i.State), "tcpi_ca_state": int(i.CA), "tcpi_retransmits": i.Retransmits, "tcpi_probes": i.Probes,
		"tcpi_backoff": i.Backoff, "tcpi_snd_wscale": int(i.SndScale), "tcpi_rcv_wscale": int(i.RcvScale),
		"tcpi_rto": us(i.RTO), "tcpi_rtt": us(i.SRTT), "tcpi_rttvar": us(i.RTTVar), "tcpi_min_rtt": us(i.MinRTT),
		"tcpi_snd_mss": i.SndMSS, "tcpi_rcv_mss": i.RcvMSS, "tcpi_advmss": i.AdvMSS, "tcpi_pmtu": i.PMTU,
		"tcpi_unacked": segments(i.Outstanding), "tcpi_sacked": segments(i.SACKed), "tcpi_lost": segments(i.Lost),
		"tcpi_retrans": segments(i.Retrans), "tcpi_total_retrans": int(i.TotalRetrans),
		"tcpi_snd_cwnd": i.Cwnd / max(i.SndMSS, 1), "tcpi_snd_ssthresh": i.Ssthresh / max(i.SndMSS, 1),
		"tcpi_snd_wnd": i.SndWnd, "tcpi_rcv_wnd": i.RcvWnd, "tcpi_dsack_dups": int(i.DSACKDups),
		"tcpi_bytes_acked": int(i.BytesAcked), "tcpi_bytes_received": int(i.BytesReceived), "tcpi_notsent_bytes": i.NotSent,
		"tcpi_snd_cwnd_bytes": i.Cwnd, "tcpi_snd_ssthresh_bytes": i.Ssthresh, "tcpi_rcv_ooopack_bytes": i.RcvOutOfOrder,
		"tcpi_delivered_bytes": int(i.Delivered), "tcpi_segs_out": int(i.SegsOut),
	}[name]
	if !ok {
		return 0, fmt.Errorf("no field %s", name)
	}
	return v, nil
}

package enginetest

import (
	"encoding/binary"
	"math"

	"golang.org/x/sys/unix"
)

func optionScenes() []scene {
	return []scene{
		{"Option/Defaults", optionDefaults},
		{"Option/Set", optionSet},
		{"Option/Errors", optionErrors},
		{"Option/Lengths", optionLengths},
		{"Option/Linger", optionLinger},
		{"Option/Timeouts", optionTimeouts},
		{"Option/TCPInfo", optionTCPInfo},
		{"Option/Congestion", optionCongestion},
		{"Option/WrongProtocol", optionWrongProtocol},
	}
}

const (
	sol  = unix.SOL_SOCKET
	tcp  = unix.IPPROTO_TCP
	ip   = unix.IPPROTO_IP
	ipv6 = unix.IPPROTO_IPV6
)

// optionDefaults: what a fresh stream says. Values that a sysctl sets are left
// out.
func optionDefaults(f *fixture) {
	s := f.stream(f.A)
	options := []struct {
		name       string
		level, opt int
		want       int
	}{
		{"SO_TYPE", sol, unix.SO_TYPE, unix.SOCK_STREAM},
		{"SO_PROTOCOL", sol, unix.SO_PROTOCOL, unix.IPPROTO_TCP},
		{"SO_DOMAIN", sol, unix.SO_DOMAIN, f.family},
		{"SO_ACCEPTCONN", sol, unix.SO_ACCEPTCONN, 0},
		{"SO_REUSEADDR", sol, unix.SO_REUSEADDR, 0},
		{"SO_REUSEPORT", sol, unix.SO_REUSEPORT, 0},
		{"SO_KEEPALIVE", sol, unix.SO_KEEPALIVE, 0},
		{"SO_BROADCAST", sol, unix.SO_BROADCAST, 0},
		{"SO_OOBINLINE", sol, unix.SO_OOBINLINE, 0},
		{"SO_DONTROUTE", sol, unix.SO_DONTROUTE, 0},
		{"SO_RCVLOWAT", sol, unix.SO_RCVLOWAT, 1},
		{"SO_SNDLOWAT", sol, unix.SO_SNDLOWAT, 1},
		{"SO_PRIORITY", sol, unix.SO_PRIORITY, 0},
		{"SO_MARK", sol, unix.SO_MARK, 0},
		{"TCP_NODELAY", tcp, unix.TCP_NODELAY, 0},
		{"TCP_CORK", tcp, unix.TCP_CORK, 0},
		{"TCP_DEFER_ACCEPT", tcp, unix.TCP_DEFER_ACCEPT, 0},
		{"TCP_USER_TIMEOUT", tcp, unix.TCP_USER_TIMEOUT, 0},
		{"TCP_WINDOW_CLAMP", tcp, unix.TCP_WINDOW_CLAMP, 0},
		{"TCP_MAXSEG", tcp, unix.TCP_MAXSEG, 536},
	}
	for _, o := range options {
		if got, errno := s.getInt(o.level, o.opt); errno != 0 || got != o.want {
			f.Errorf("%s is %d, %s, want %d", o.name, got, errName(errno), o.want)
		}
	}
	if f.family == unix.AF_INET6 {
		for _, o := range []struct {
			name      string
			opt, want int
		}{
			{"IPV6_UNICAST_HOPS", unix.IPV6_UNICAST_HOPS, 64},
			{"IPV6_MULTICAST_HOPS", unix.IPV6_MULTICAST_HOPS, 1},
			{"IPV6_TCLASS", unix.IPV6_TCLASS, 0},
		} {
			if got, errno := s.getInt(ipv6, o.opt); errno != 0 || got != o.want {
				f.Errorf("%s is %d, %s, want %d", o.name, got, errName(errno), o.want)
			}
		}
		return
	}
	for _, o := range []struct {
		name      string
		opt, want int
	}{{"IP_TTL", unix.IP_TTL, 64}, {"IP_TOS", unix.IP_TOS, 0}, {"IP_MULTICAST_TTL", unix.IP_MULTICAST_TTL, 1}, {"IP_MULTICAST_LOOP", unix.IP_MULTICAST_LOOP, 1}} {
		if got, errno := s.getInt(ip, o.opt); errno != 0 || got != o.want {
			f.Errorf("%s is %d, %s, want %d", o.name, got, errName(errno), o.want)
		}
	}
}

// optionSet: a value set, and the value then read.
func optionSet(f *fixture) {
	s := f.stream(f.A)
	options := []struct {
		name       string
		level, opt int
		set, want  int
	}{
		{"SO_REUSEADDR", sol, unix.SO_REUSEADDR, 5, 1},
		{"SO_REUSEPORT", sol, unix.SO_REUSEPORT, 1, 1},
		{"SO_KEEPALIVE", sol, unix.SO_KEEPALIVE, -1, 1},
		{"SO_BROADCAST", sol, unix.SO_BROADCAST, 1, 1},
		{"SO_OOBINLINE", sol, unix.SO_OOBINLINE, 1, 1},
		{"SO_RCVBUF", sol, unix.SO_RCVBUF, 30000, 60000},
		{"SO_RCVBUF least", sol, unix.SO_RCVBUF, 0, 2304},
		{"SO_SNDBUF", sol, unix.SO_SNDBUF, 30000, 60000},
		{"SO_SNDBUF least", sol, unix.SO_SNDBUF, 0, 4608},
		{"SO_RCVLOWAT", sol, unix.SO_RCVLOWAT, 100, 100},
		{"SO_RCVLOWAT 0", sol, unix.SO_RCVLOWAT, 0, 1},
		{"SO_PRIORITY", sol, unix.SO_PRIORITY, 6, 6},
		{"TCP_NODELAY", tcp, unix.TCP_NODELAY, 2, 1},
		{"TCP_CORK", tcp, unix.TCP_CORK, 1, 1},
		{"TCP_CORK off", tcp, unix.TCP_CORK, 0, 0},
		{"TCP_KEEPIDLE", tcp, unix.TCP_KEEPIDLE, 60, 60},
		{"TCP_KEEPINTVL", tcp, unix.TCP_KEEPINTVL, 5, 5},
		{"TCP_KEEPCNT", tcp, unix.TCP_KEEPCNT, 3, 3},
		{"TCP_SYNCNT", tcp, unix.TCP_SYNCNT, 4, 4},
		{"TCP_DEFER_ACCEPT rounds up to a retransmission", tcp, unix.TCP_DEFER_ACCEPT, 2, 3},
		{"TCP_USER_TIMEOUT", tcp, unix.TCP_USER_TIMEOUT, 12345, 12345},
		{"TCP_QUICKACK", tcp, unix.TCP_QUICKACK, 1, 1},
		{"TCP_LINGER2", tcp, unix.TCP_LINGER2, 10, 10},
	}
	if f.family == unix.AF_INET {
		options = append(options, []struct {
			name       string
			level, opt int
			set, want  int
		}{
			{"IP_TOS", ip, unix.IP_TOS, 0x10, 0x10},
			{"IP_TOS keeps ECN out of a stream", ip, unix.IP_TOS, 0x13, 0x10},
			{"IP_TTL", ip, unix.IP_TTL, 255, 255},
			{"IP_TTL default", ip, unix.IP_TTL, -1, 64},
			{"IP_MTU_DISCOVER", ip, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO, unix.IP_PMTUDISC_DO},
		}...)
	} else {
		options = append(options, []struct {
			name       string
			level, opt int
			set, want  int
		}{
			{"IPV6_UNICAST_HOPS", ipv6, unix.IPV6_UNICAST_HOPS, 1, 1},
			{"IPV6_UNICAST_HOPS default", ipv6, unix.IPV6_UNICAST_HOPS, -1, 64},
			{"IPV6_V6ONLY", ipv6, unix.IPV6_V6ONLY, 1, 1},
			{"IPV6_TCLASS", ipv6, unix.IPV6_TCLASS, 0x20, 0x20},
		}...)
	}
	for _, o := range options {
		if errno := s.setInt(o.level, o.opt, o.set); errno != 0 {
			f.Errorf("%s set to %d: %s", o.name, o.set, errName(errno))
			continue
		}
		if got, errno := s.getInt(o.level, o.opt); errno != 0 || got != o.want {
			f.Errorf("%s set to %d is %d, %s, want %d", o.name, o.set, got, errName(errno), o.want)
		}
	}
}

// noLevel is getsockopt's answer to a level that the socket does not know, in
// which IPv4 and IPv6 differ.
func (f *fixture) noLevel() unix.Errno {
	if f.family == unix.AF_INET6 {
		return unix.ENOPROTOOPT
	}
	return unix.EOPNOTSUPP
}

func optionErrors(f *fixture) {
	s := f.stream(f.A)
	for _, o := range []struct {
		name       string
		level, opt int
		set        int
		want       unix.Errno
	}{
		{"unknown of SOL_SOCKET", sol, 9999, 1, unix.ENOPROTOOPT},
		{"unknown of TCP", tcp, 9999, 1, unix.ENOPROTOOPT},
		{"unknown of IP", ip, 9999, 1, unix.ENOPROTOOPT},
		{"unknown level", 9999, 1, 1, unix.ENOPROTOOPT},
		{"SO_TYPE", sol, unix.SO_TYPE, 1, unix.ENOPROTOOPT},
		{"SO_ERROR", sol, unix.SO_ERROR, 1, unix.ENOPROTOOPT},
		{"SO_ACCEPTCONN", sol, unix.SO_ACCEPTCONN, 1, unix.ENOPROTOOPT},
		{"SO_SNDLOWAT", sol, unix.SO_SNDLOWAT, 1, unix.ENOPROTOOPT},
		{"TCP_KEEPIDLE 0", tcp, unix.TCP_KEEPIDLE, 0, unix.EINVAL},
		{"TCP_KEEPIDLE 32768", tcp, unix.TCP_KEEPIDLE, 32768, unix.EINVAL},
		{"TCP_KEEPINTVL 0", tcp, unix.TCP_KEEPINTVL, 0, unix.EINVAL},
		{"TCP_KEEPCNT 128", tcp, unix.TCP_KEEPCNT, 128, unix.EINVAL},
		{"TCP_SYNCNT 128", tcp, unix.TCP_SYNCNT, 128, unix.EINVAL},
		{"TCP_MAXSEG 87", tcp, unix.TCP_MAXSEG, 87, unix.EINVAL},
		{"TCP_USER_TIMEOUT -1", tcp, unix.TCP_USER_TIMEOUT, -1, unix.EINVAL},
		{"TCP_INFO", tcp, unix.TCP_INFO, 1, unix.ENOPROTOOPT},
	} {
		f.expect("set "+o.name, s.setInt(o.level, o.opt, o.set), o.want)
	}
	for _, o := range []struct {
		name       string
		level, opt int
		want       unix.Errno
	}{
		{"unknown of SOL_SOCKET", sol, 9999, unix.ENOPROTOOPT},
		{"unknown of TCP", tcp, 9999, unix.ENOPROTOOPT},
		{"unknown of IP", ip, 9999, unix.ENOPROTOOPT},
		{"unknown level", 9999, 1, f.noLevel()},
		{"TCP_REPAIR_QUEUE outside repair", tcp, unix.TCP_REPAIR_QUEUE, unix.EINVAL},
	} {
		_, errno := s.getInt(o.level, o.opt)
		f.expect("get "+o.name, errno, o.want)
	}
	if f.family == unix.AF_INET {
		f.expect("IP_TTL 256", s.setInt(ip, unix.IP_TTL, 256), unix.EINVAL)
		f.expect("IP_TTL 0", s.setInt(ip, unix.IP_TTL, 0), unix.EINVAL)
		return
	}
	f.expect("IPV6_UNICAST_HOPS 256", s.setInt(ipv6, unix.IPV6_UNICAST_HOPS, 256), unix.EINVAL)
}

// optionLengths: values shorter and longer than an int.
func optionLengths(f *fixture) {
	s := f.stream(f.A)
	f.expect("set with 0 bytes", s.SetOption(sol, unix.SO_KEEPALIVE, nil), unix.EINVAL)
	f.expect("set with 3 bytes", s.SetOption(sol, unix.SO_KEEPALIVE, []byte{1, 0, 0}), unix.EINVAL)
	f.expect("set with 8 bytes", s.SetOption(sol, unix.SO_KEEPALIVE, []byte{1, 0, 0, 0, 9, 9, 9, 9}), 0)
	f.expect("set TCP with 1 byte", s.SetOption(tcp, unix.TCP_NODELAY, []byte{1}), unix.EINVAL)
	for _, n := range []int{0, 1, 3, 4, 16} {
		b := make([]byte, n)
		got, errno := s.GetOption(sol, unix.SO_TYPE, b)
		if errno != 0 || got != min(n, 4) {
			f.Errorf("get into %d bytes: %d, %s", n, got, errName(errno))
		}
		if n > 0 && b[0] != unix.SOCK_STREAM {
			f.Errorf("get into %d bytes: % x", n, b)
		}
	}
	if f.family == unix.AF_INET {
		// ip(7) options take a byte as well, and give one back.
		f.expect("IP_TOS with 1 byte", s.SetOption(ip, unix.IP_TOS, []byte{0x10}), 0)
		var b [1]byte
		if n, errno := s.GetOption(ip, unix.IP_TOS, b[:]); n != 1 || errno != 0 || b[0] != 0x10 {
			f.Errorf("IP_TOS into 1 byte: %d, %s, % x", n, errName(errno), b)
		}
	}
}

func optionLinger(f *fixture) {
	s := f.stream(f.A)
	b := make([]byte, 8)
	n, errno := s.GetOption(sol, unix.SO_LINGER, b)
	if n != 8 || errno != 0 || binary.NativeEndian.Uint64(b) != 0 {
		f.Errorf("the default is % x, %s", b[:n], errName(errno))
	}
	binary.NativeEndian.PutUint32(b[0:], 9)
	binary.NativeEndian.PutUint32(b[4:], 30)
	f.must("set", s.SetOption(sol, unix.SO_LINGER, b), 0)
	_, _ = s.GetOption(sol, unix.SO_LINGER, b)
	if on, sec := binary.NativeEndian.Uint32(b[0:]), binary.NativeEndian.Uint32(b[4:]); on != 1 || sec != 30 {
		f.Errorf("set to 9, 30 it is %d, %d", on, sec)
	}
	f.expect("set with 4 bytes", s.SetOption(sol, unix.SO_LINGER, b[:4]), unix.EINVAL)
}

func optionTimeouts(f *fixture) {
	s := f.stream(f.A)
	for _, opt := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		b := make([]byte, 16)
		n, errno := s.GetOption(sol, opt, b)
		if n != 16 || errno != 0 || binary.NativeEndian.Uint64(b) != 0 {
			f.Errorf("the default of %d is % x, %s", opt, b[:n], errName(errno))
		}
		binary.NativeEndian.PutUint64(b[0:], 2)
		binary.NativeEndian.PutUint64(b[8:], 500_000)
		f.must("set", s.SetOption(sol, opt, b), 0)
		_, _ = s.GetOption(sol, opt, b)
		if sec, usec := binary.NativeEndian.Uint64(b[0:]), binary.NativeEndian.Uint64(b[8:]); sec != 2 || usec != 500_000 {
			f.Errorf("set to 2.5 s it is %d s %d us", sec, usec)
		}
		binary.NativeEndian.PutUint64(b[8:], 1_000_000)
		f.expect("a second of microseconds", s.SetOption(sol, opt, b), unix.EDOM)
	}
}

// optionTCPInfo: the fields that programs look at.
func optionTCPInfo(f *fixture) {
	const state, rcvMSS, sndMSS = 0, 20, 16 // offsets in struct tcp_info
	fresh := f.stream(f.A)
	b := make([]byte, 104)
	n, errno := fresh.GetOption(tcp, unix.TCP_INFO, b)
	if n != len(b) || errno != 0 || b[state] != 7 { // TCP_CLOSE
		f.Errorf("a fresh stream's: %d bytes, %s, state %d", n, errName(errno), b[state])
	}
	a, s := f.connected()
	for _, e := range []*sock{a, s} {
		n, errno = e.GetOption(tcp, unix.TCP_INFO, b)
		if n != len(b) || errno != 0 || b[state] != 1 { // TCP_ESTABLISHED
			f.Errorf("%d bytes, %s, state %d", n, errName(errno), b[state])
		}
		if v := binary.NativeEndian.Uint32(b[sndMSS:]); v == 0 || v > math.MaxUint16 {
			f.Errorf("tcpi_snd_mss is %d", v)
		}
		if v := binary.NativeEndian.Uint32(b[rcvMSS:]); v == 0 || v > math.MaxUint16 {
			f.Errorf("tcpi_rcv_mss is %d", v)
		}
	}
	if n, errno = a.GetOption(tcp, unix.TCP_INFO, b[:8]); n != 8 || errno != 0 {
		f.Errorf("into 8 bytes: %d, %s", n, errName(errno))
	}
}

func optionCongestion(f *fixture) {
	s := f.stream(f.A)
	b := make([]byte, 16)
	n, errno := s.GetOption(tcp, unix.TCP_CONGESTION, b)
	if n != 16 || errno != 0 || b[0] == 0 {
		f.Errorf("TCP_CONGESTION is %q, %s", b[:n], errName(errno))
	}
	f.expect("set reno", s.SetOption(tcp, unix.TCP_CONGESTION, []byte("reno")), 0)
	n, errno = s.GetOption(tcp, unix.TCP_CONGESTION, b)
	if errno != 0 || string(b[:5]) != "reno\x00" {
		f.Errorf("set to reno it is %q, %s", b[:n], errName(errno))
	}
	f.expect("set nonsense", s.SetOption(tcp, unix.TCP_CONGESTION, []byte("nonsense")), unix.ENOENT)
}

// optionWrongProtocol: options of another protocol or family than the socket's.
func optionWrongProtocol(f *fixture) {
	d := f.dgram(f.A)
	f.expect("set TCP_NODELAY of a datagram socket", d.setInt(tcp, unix.TCP_NODELAY, 1), unix.ENOPROTOOPT)
	_, errno := d.getInt(tcp, unix.TCP_NODELAY)
	f.expect("get TCP_NODELAY of a datagram socket", errno, f.noLevel())
	if f.family == unix.AF_INET {
		f.expect("set IPV6_V6ONLY of an IPv4 socket", d.setInt(ipv6, unix.IPV6_V6ONLY, 1), unix.ENOPROTOOPT)
		_, errno = d.getInt(ipv6, unix.IPV6_V6ONLY)
		f.expect("get IPV6_V6ONLY of an IPv4 socket", errno, unix.EOPNOTSUPP)
	}
	typ, _ := d.getInt(sol, unix.SO_TYPE)
	proto, _ := d.getInt(sol, unix.SO_PROTOCOL)
	if typ != unix.SOCK_DGRAM || proto != unix.IPPROTO_UDP {
		f.Errorf("SO_TYPE and SO_PROTOCOL of a datagram socket are %d, %d", typ, proto)
	}
}

package relay

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// Publish leads a port of the host to a port of the near stack.
type Publish struct {
	Host  netip.AddrPort // where the host listens; port 0 lets the kernel choose
	Proto string         // "tcp" or "udp"
	Port  uint16         // of the near stack
}

// String is the flag that [ParsePublish] reads.
func (p Publish) String() string { return fmt.Sprintf("%v:%d/%s", p.Host, p.Port, p.Proto) }

// ParsePublish reads the value of a --publish flag:
//
//	[ADDR:]HOSTPORT[:PORT][/tcp|/udp]
//
// ADDR is an IPv4 address or an IPv6 address in brackets, and 127.0.0.1 if left
// out: a service is for this host alone unless the user says 0.0.0.0 or [::].
// 0.0.0.0 means all IPv4 addresses and [::] all IPv6 addresses; a client's family
// is kept, so that clients over IPv6 need a server of the near stack that listens
// on IPv6. PORT is HOSTPORT if left out. HOSTPORT may be 0, for one that the kernel
// chooses, if PORT is given.
func ParsePublish(s string) (Publish, error) {
	p, err := parsePublish(s)
	if err != nil {
		return Publish{}, fmt.Errorf("publish %q: %w", s, err)
	}
	return p, nil
}

func parsePublish(s string) (Publish, error) {
	p := Publish{Proto: "tcp"}
	rest, proto, ok := strings.Cut(s, "/")
	if ok {
		if proto != "tcp" && proto != "udp" {
			return p, fmt.Errorf("protocol %q is neither tcp nor udp", proto)
		}
		p.Proto = proto
	}
	addr := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if strings.HasPrefix(rest, "[") {
		text, after, ok := strings.Cut(rest[1:], "]")
		if !ok {
			return p, errors.New("no ] after the address")
		}
		a, err := netip.ParseAddr(text)
		if err != nil || !a.Is6() {
			return p, fmt.Errorf("%q is not an ipv6 address", text)
		}
		if rest, ok = strings.CutPrefix(after, ":"); !ok {
			return p, errors.New("no host port after the address")
		}
		addr = a.Unmap()
	} else if text, after, ok := strings.Cut(rest, ":"); ok && strings.Contains(text, ".") {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return p, fmt.Errorf("%q is not an ipv4 address", text)
		}
		addr, rest = a, after
	}
	if strings.Count(rest, ":") > 1 {
		return p, errors.New("too many colons: an ipv6 address needs brackets")
	}
	hostText, nearText, two := strings.Cut(rest, ":")
	host, err := parsePort("host port", hostText)
	if err != nil {
		return p, err
	}
	p.Host, p.Port = netip.AddrPortFrom(addr, host), host
	if two {
		if p.Port, err = parsePort("port", nearText); err != nil {
			return p, err
		}
	}
	if p.Port == 0 {
		return p, errors.New("port 0 cannot be published")
	}
	return p, nil
}

func parsePort(what, s string) (uint16, error) {
	if s == "" {
		return 0, fmt.Errorf("no %s", what)
	}
	for _, c := range s {
		if c < '0' || c > '9' {
			return 0, fmt.Errorf("%s %q is not a number", what, s)
		}
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		return 0, fmt.Errorf("%s %s is not in 0 to 65535", what, s)
	}
	return uint16(n), nil
}

package relay

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"
)

// Limits and defaults.
const (
	// DefaultMTU leaves room for no more than an IPv4 packet may be (65535),
	// rounded down to what slirp and loopback devices use.
	DefaultMTU = 65520

	minMTU = 1280  // RFC 8200, 5
	maxMTU = 65535 // the total length field of IPv4

	defaultUDPTimeout  = 2 * time.Minute  // RFC 4787, REQ-5
	defaultPingTimeout = 60 * time.Second // RFC 5508, REQ-1
	dnsFlowTimeout     = 15 * time.Second // a query to a resolver and its late answers
	defaultDNSTimeout  = 3 * time.Second
	defaultDrain       = 5 * time.Second
)

// Config says what the virtual network looks like. The zero Config is slirp's
// network: 10.0.2.0/24 and fd00::/64.
type Config struct {
	// Near4 and Near6 are the near stack's addresses with their networks;
	// 10.0.2.15/24 and fd00::15/64 if zero.
	Near4, Near6 netip.Prefix
	// Gateway4 and Gateway6 lead to the host's loopback (127.0.0.1, ::1). If
	// zero they are host 2 of the near network.
	Gateway4, Gateway6 netip.Addr
	// DNS4 and DNS6 answer for the host's resolvers on port 53. If zero they
	// are host 3 of the near network.
	DNS4, DNS6 netip.Addr

	// MTU in bytes, 1280 to 65535; DefaultMTU if 0.
	MTU int

	// ResolvConf is the resolv.conf(5) that names the host's resolvers;
	// /etc/resolv.conf if empty. It is read again when it has changed.
	ResolvConf string
	// Resolvers, if not empty, are used in place of ResolvConf.
	Resolvers []netip.AddrPort
	// DNSTimeout is how long one resolver may take before the next is asked;
	// 3 s if 0.
	DNSTimeout time.Duration

	// UDPTimeout is how long a UDP flow may be idle; 2 min if 0. Flows to
	// port 53 end after 15 s at most.
	UDPTimeout time.Duration

	// Publish lists the host's ports that lead to ports of the near stack.
	Publish []Publish

	// DrainTimeout bounds how long Close waits for what the near stack wrote
	// to reach the host's sockets; 5 s if 0, no waiting if negative.
	DrainTimeout time.Duration

	// Logger gets one debug record for each flow; nil is silence.
	Logger *slog.Logger
}

// withDefaults returns c with every zero field filled in, or what is wrong.
func (c Config) withDefaults() (Config, error) {
	if !c.Near4.IsValid() {
		c.Near4 = netip.MustParsePrefix("10.0.2.15/24")
	}
	if !c.Near6.IsValid() {
		c.Near6 = netip.MustParsePrefix("fd00::15/64")
	}
	for _, d := range []struct {
		addr *netip.Addr
		near netip.Prefix
		host byte
	}{
		{&c.Gateway4, c.Near4, 2}, {&c.DNS4, c.Near4, 3},
		{&c.Gateway6, c.Near6, 2}, {&c.DNS6, c.Near6, 3},
	} {
		if !d.addr.IsValid() {
			*d.addr = hostOf(d.near, d.host)
		}
	}
	if c.MTU == 0 {
		c.MTU = DefaultMTU
	}
	if c.ResolvConf == "" {
		c.ResolvConf = "/etc/resolv.conf"
	}
	if c.DNSTimeout == 0 {
		c.DNSTimeout = defaultDNSTimeout
	}
	if c.UDPTimeout == 0 {
		c.UDPTimeout = defaultUDPTimeout
	}
	if c.DrainTimeout == 0 {
		c.DrainTimeout = defaultDrain
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, c.check()
}

func (c *Config) check() error {
	if c.MTU < minMTU || c.MTU > maxMTU {
		return fmt.Errorf("relay: mtu %d is not in %d to %d", c.MTU, minMTU, maxMTU)
	}
	for _, d := range []struct {
		name    string
		near    netip.Prefix
		gw, dns netip.Addr
		is4     bool
	}{
		{"ipv4", c.Near4, c.Gateway4, c.DNS4, true},
		{"ipv6", c.Near6, c.Gateway6, c.DNS6, false},
	} {
		near := d.near.Addr()
		for _, a := range []netip.Addr{near, d.gw, d.dns} {
			if a.Is4() != d.is4 || a.Is4In6() || a.Zone() != "" {
				return fmt.Errorf("relay: %v is not an %s address", a, d.name)
			}
			if a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() {
				return fmt.Errorf("relay: %v cannot be an address of the relay's network", a)
			}
		}
		if near == d.gw || near == d.dns || d.gw == d.dns {
			return fmt.Errorf("relay: near address %v, gateway %v and dns %v must differ", near, d.gw, d.dns)
		}
	}
	for _, r := range c.Resolvers {
		if !r.IsValid() || r.Port() == 0 {
			return errors.New("relay: a resolver needs an address and a port")
		}
	}
	return nil
}

// hostOf returns address number host (1 to 255) of p's network.
func hostOf(p netip.Prefix, host byte) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	b[len(b)-1] |= host
	a, _ := netip.AddrFromSlice(b)
	return a
}

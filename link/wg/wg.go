// Package wg is a link into a WireGuard network, described by an ordinary
// wg-quick(8) file, without root: WireGuard's own implementation in Go
// (wireguard-go) speaks to the peers over a UDP socket of the host, and what it
// takes for a TUN device is the link. Whatever uses the link is inside the VPN,
// and nothing else of the machine is.
package wg

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	"golang.zx2c4.com/wireguard/conn"
	"golang.zx2c4.com/wireguard/device"

	"github.com/alptrace/alptrace/link"
)

// DefaultMTU is wg-quick's where the way to the peers has 1500 bytes, as a network
// has that is not known to be narrower.
const DefaultMTU = 1420

// maxMTU is the largest that wireguard-go takes, bytes.
const maxMTU = device.MaxContentSize

// Options of a link; the zero value works.
type Options struct {
	// Logger hears what wireguard-go has to say; nil is silence.
	Logger *slog.Logger
}

// Link is an end of a WireGuard network.
type Link struct {
	name string
	mtu  int
	dev  *device.Device
	tun  *tunnel
}

var _ link.Link = (*Link)(nil)

// Open joins the network of a configuration. It looks up the names of endpoints,
// again and again until ctx is done, but does not wait for a peer to answer.
// Errors: a name that cannot be found, with its line; EADDRINUSE if ListenPort
// is another's.
func Open(ctx context.Context, c *Config, opts Options) (*Link, error) {
	ends, err := resolve(ctx, c)
	if err != nil {
		return nil, err
	}
	log := opts.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	l := &Link{name: c.Name, mtu: c.MTU}
	if l.mtu == 0 {
		l.mtu = DefaultMTU
	}
	l.tun = newTunnel(l.name, l.mtu)
	l.dev = device.NewDevice(l.tun, conn.NewDefaultBind(), &device.Logger{
		Verbosef: func(format string, args ...any) { log.Debug("wg: " + fmt.Sprintf(format, args...)) },
		Errorf:   func(format string, args ...any) { log.Warn("wg: " + fmt.Sprintf(format, args...)) },
	})
	if err = l.dev.IpcSet(settings(c, ends)); err == nil {
		err = l.dev.Up()
	}
	if err != nil {
		l.dev.Close()
		if errors.Is(err, unix.EADDRINUSE) {
			err = fmt.Errorf("ListenPort %d: %w", c.ListenPort, err)
		}
		return nil, fmt.Errorf("wg:%s: %w", c.file, err)
	}
	return l, nil
}

// Between lookups of a name, as wg(8) waits at first.
const lookupGap = time.Second

// resolve finds the addresses of the endpoints.
func resolve(ctx context.Context, c *Config) ([]netip.AddrPort, error) {
	ends := make([]netip.AddrPort, len(c.Peers))
	for i, p := range c.Peers {
		if p.Endpoint == "" {
			continue
		}
		host, port, _ := net.SplitHostPort(p.Endpoint) // is known to be one
		n, _ := strconv.ParseUint(port, 10, 16)
		for {
			ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
			if err == nil && len(ips) > 0 {
				ends[i] = netip.AddrPortFrom(ips[0].Unmap(), uint16(n))
				break
			}
			select {
			case <-ctx.Done():
				return nil, fmt.Errorf("%s:%d: Endpoint: %w", c.file, p.endpointLine, err)
			case <-time.After(lookupGap):
			}
		}
	}
	return ends, nil
}

// settings are the configuration in the words of wireguard-go
// (wireguard.com/xplatform).
func settings(c *Config, ends []netip.AddrPort) string {
	var b strings.Builder
	set := func(key string, value any) { fmt.Fprintf(&b, "%s=%v\n", key, value) }
	set("private_key", hex.EncodeToString(c.PrivateKey[:]))
	set("listen_port", c.ListenPort)
	set("replace_peers", true)
	for i, p := range c.Peers {
		set("public_key", hex.EncodeToString(p.PublicKey[:]))
		if p.PresharedKey != (Key{}) {
			set("preshared_key", hex.EncodeToString(p.PresharedKey[:]))
		}
		if ends[i].IsValid() {
			set("endpoint", ends[i])
		}
		set("persistent_keepalive_interval", p.Keepalive)
		set("replace_allowed_ips", true)
		for _, a := range p.AllowedIPs {
			set("allowed_ip", a)
		}
	}
	return b.String()
}

// HostAddrs are the interface's addresses, each alone in its subnet: what is
// reachable is said by Routes.
func (c *Config) HostAddrs() []netip.Prefix {
	var list []netip.Prefix
	for _, a := range c.Addrs {
		list = append(list, netip.PrefixFrom(a.Addr(), a.Addr().BitLen()))
	}
	return list
}

// Routes are what the peers are allowed to have, of the families that the
// interface has an address of. Everything else is unreachable.
func (c *Config) Routes() []netip.Prefix {
	var list []netip.Prefix
	for _, p := range c.Peers {
		for _, a := range p.AllowedIPs {
			same := func(own netip.Prefix) bool { return own.Addr().Is4() == a.Addr().Is4() }
			if !slices.Contains(list, a) && slices.ContainsFunc(c.Addrs, same) {
				list = append(list, a)
			}
		}
	}
	return list
}

// RedirectDNS says where a flow to dst goes instead: one to a name server of the
// machine's, as resolvers gives them, goes to one of DNS, of the same family. ok
// is false for every other destination.
func (c *Config) RedirectDNS(dst netip.AddrPort, resolvers func() []netip.AddrPort) (to netip.AddrPort, ok bool) {
	const dnsPort = 53
	if dst.Port() != dnsPort || len(c.DNS) == 0 {
		return netip.AddrPort{}, false
	}
	plain := netip.AddrPortFrom(dst.Addr().Unmap(), dnsPort)
	i := slices.Index(resolvers(), plain)
	if i < 0 {
		return netip.AddrPort{}, false
	}
	var same []netip.Addr
	for _, a := range c.DNS {
		if a.Is4() == plain.Addr().Is4() {
			same = append(same, a)
		}
	}
	if len(same) == 0 {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(same[i%len(same)], dnsPort), true
}

// Name is the interface's name: that of the file.
func (l *Link) Name() string { return l.name }

// Medium is IP.
func (l *Link) Medium() link.Medium { return link.IP }

// MTU is that of the configuration, bytes.
func (l *Link) MTU() int { return l.mtu }

// HardwareAddr is nil.
func (l *Link) HardwareAddr() net.HardwareAddr { return nil }

// Features are checksum and segmentation, up to 65535 bytes.
func (l *Link) Features() link.Features {
	return link.Features{Csum: true, TSO: true, GSOMax: link.MaxPacket}
}

// Send sends packets. While wireguard-go does not take them as fast, it waits,
// at most 10 ms; then packets are lost. Errors: EMSGSIZE for a packet larger
// than the MTU, those of [link.Segment], net.ErrClosed.
func (l *Link) Send(pkts []link.Packet) (int, error) {
	n, err := l.tun.send(pkts)
	if err != nil {
		err = fmt.Errorf("%s: %w", l.name, err)
	}
	return n, err
}

// Start begins delivery, once. Packets that came before are lost.
func (l *Link) Start(recv func(pkts []link.Packet)) error {
	if err := l.tun.start(recv); err != nil {
		return fmt.Errorf("%s: %w", l.name, err)
	}
	return nil
}

// Close leaves the network. It must not be called by the receive function.
// Further calls do nothing.
func (l *Link) Close() error {
	l.tun.stop()
	l.dev.Close()
	return nil
}

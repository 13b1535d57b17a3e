package command

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/alptrace/alptrace/link"
	hostlink "github.com/alptrace/alptrace/link/host"
	"github.com/alptrace/alptrace/link/impair"
	"github.com/alptrace/alptrace/link/relay"
	"github.com/alptrace/alptrace/link/tun"
	"github.com/alptrace/alptrace/link/wire"
	"github.com/alptrace/alptrace/observe/tcplog"
	"github.com/alptrace/alptrace/stack"
	"github.com/alptrace/alptrace/stack/host"
	"github.com/alptrace/alptrace/stack/netstack"
	"github.com/alptrace/alptrace/stack/transport"
)

// network is the engine with its links.
type network struct {
	engine stack.Engine
	relay  *relay.Relay // nil unless --net relay
	// redirect is tracer.Config.Redirect, nil if there is none.
	redirect func(dst netip.AddrPort) (to netip.AddrPort, ok bool)
	impair   *impair.Link // nil unless --impair or --ui
	page     *page        // nil unless --ui
	net      string       // as --net says; what auto became
	rec      *recorder    // nil unless --pcap or --tcp-log
	tcpLog   *tcplog.Log  // nil unless --tcp-log
}

// describe names engine and link.
func (n *network) describe() string { return n.engine.Name() + ", " + n.net }

// newNetwork builds what --net, --engine and their companions ask for.
func newNetwork(o *options, pg *page, rec *recorder, log *slog.Logger) (*network, error) {
	n := &network{net: o.net, page: pg, rec: rec}
	var err error
	if o.engine == "host" {
		n.net = "the host's network"
		n.engine, err = host.New(host.Config{})
		return n, err
	}
	cfg := netstack.Config{Addrs: o.addrs, Gateways: o.gateways, Probe: rec.wants(), Logger: log,
		Transports: transport.Registered(), MapTCP: o.mapTCP}
	if cfg.TCP, err = newTCP(o.tcp); err != nil {
		return nil, err
	}
	bare, err := n.openLink(o, &cfg, log)
	if err != nil {
		return nil, err
	}
	worse, err := n.withImpairment(o, bare)
	if err != nil {
		bare.Close()
		return nil, err
	}
	worse = n.withStep(o, worse)
	l, err := rec.wrap(worse, n)
	if err != nil {
		worse.Close()
		return nil, err
	}
	if o.isLinux() {
		if n.engine, err = newLinux(o, l, &cfg, log); err != nil {
			if l != nil {
				l.Close()
			}
			return nil, err
		}
		rec.follow(n)
		return n, nil
	}
	if l != nil {
		cfg.Links = []link.Link{l}
	}
	e, err := netstack.New(cfg)
	if err != nil {
		if l != nil {
			l.Close()
		}
		return nil, err
	}
	n.engine = e
	rec.follow(n)
	if h, ok := bare.(*hostlink.Link); ok {
		h.OnChange(func() {
			if err := e.HostChanged(); err != nil {
				log.Warn("follow the host's addresses", "err", err)
			}
		})
	}
	return n, nil
}

func (n *network) openLink(o *options, cfg *netstack.Config, log *slog.Logger) (link.Link, error) {
	switch o.net {
	case "auto":
		l, err := openHost(o, cfg, log, autoWait)
		if err == nil {
			n.net = "host"
			return l, nil
		}
		log.Debug("no lease of rootd: relay", "err", err)
		n.net = "relay"
		return n.openRelay(o, cfg, log)
	case "host":
		return openHost(o, cfg, log, hostWait)
	case "none":
		return nil, nil
	case "tun":
		return tun.Open(o.netArg, tun.TUN, tun.Options{Logger: log})
	case "tap":
		return tun.Open(o.netArg, tun.TAP, tun.Options{Logger: log})
	case "wire":
		return wire.Open(o.netArg, wire.Options{Logger: log})
	case "udp":
		return openUDP(o, log)
	case "wg":
		return n.openWG(o, cfg, log)
	case "relay":
		return n.openRelay(o, cfg, log)
	}
	return nil, fmt.Errorf("--net %s: no such link", o.net)
}

// How long rootd may take to give a lease: with auto, a program should not wait
// for a daemon that hangs.
const autoWait, hostWait = 200 * time.Millisecond, 10 * time.Second

// openHost asks rootd for a lease.
func openHost(o *options, cfg *netstack.Config, log *slog.Logger, wait time.Duration) (link.Link, error) {
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	l, err := hostlink.Open(ctx, hostlink.Config{Socket: o.rootd, Program: o.argv[0], Logger: log})
	if err != nil {
		return nil, fmt.Errorf("--net host: %w", err)
	}
	cfg.Host = l
	return l, nil
}

func (n *network) openRelay(o *options, cfg *netstack.Config, log *slog.Logger) (link.Link, error) {
	rc := relay.Config{Publish: o.publish, Logger: log}
	for _, p := range o.addrs {
		if p.Addr().Is4() {
			rc.Near4 = p
		} else {
			rc.Near6 = p
		}
	}
	r, err := relay.New(rc)
	if err != nil {
		return nil, err
	}
	n.relay, n.redirect = r, r.RedirectDNS
	cfg.Addrs = r.Addrs()
	if len(cfg.Gateways) == 0 {
		cfg.Gateways = r.Gateways()
	}
	return r, nil
}

// withImpairment puts --impair around a link: inside of the capture, which has
// what the stack sees.
func (n *network) withImpairment(o *options, l link.Link) (link.Link, error) {
	if l == nil {
		return nil, nil
	}
	cfg := o.impair
	cfg.Live = n.page != nil
	w, err := impair.Wrap(l, cfg)
	if err != nil {
		return nil, fmt.Errorf("--impair: %w", err)
	}
	n.impair, _ = w.(*impair.Link)
	return w, nil
}

// drain waits until what was sent has left.
func (n *network) drain(ctx context.Context) {
	n.engine.Drain(ctx)
	n.page.drain(ctx)
	if n.impair != nil {
		_ = n.impair.Drain(ctx)
	}
	if n.relay != nil {
		_ = n.relay.Drain(ctx) // what ctx cuts off is lost, as with an orphan of the kernel's
	}
}

func (n *network) close() {
	n.engine.Close()
	n.rec.close()
}

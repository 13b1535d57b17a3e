package command

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/spf13/pflag"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/relay"
	"github.com/alptrace/alptrace/link/udp"
	"github.com/alptrace/alptrace/link/wg"
	"github.com/alptrace/alptrace/stack/netstack"
)

// overlayOptions are what the command line asks of networks between machines.
type overlayOptions struct {
	netKey string // the file of --net udp's key
	genKey bool
}

func overlayFlags(f *pflag.FlagSet, o *overlayOptions) {
	f.StringVar(&o.netKey, "net-key", "", "udp: the `FILE` of the key that the members share, mode 0600")
	f.BoolVar(&o.genKey, "gen-key", false, "print a new key for --net-key and exit")
}

// newKey is a key as --net-key reads it.
func newKey() string { return udp.NewKey().Text() }

// checkOverlay checks what follows the colon.
func (o *options) checkOverlay() error {
	switch {
	case o.net == "wg" && o.netArg == "":
		return errors.New("--net wg: the file is missing (wg:FILE)")
	case o.net == "wg":
		return nil
	case o.netArg == "":
		return errors.New("--net udp: where to listen and where others are is missing (udp:LISTEN,PEER...)")
	}
	if _, _, err := udp.ParseSpec(o.netArg); err != nil {
		return fmt.Errorf("--net udp: %w", err)
	}
	return nil
}

// agreeOverlay refuses flags that contradict each other.
func (o *options) agreeOverlay() error {
	switch {
	case o.net == "udp" && o.netKey == "":
		return errors.New("--net udp needs a key: --net-key FILE (alptrace --gen-key makes one)")
	case o.net != "udp" && o.netKey != "":
		return errors.New("--net-key needs --net udp")
	case o.net == "wg" && len(o.addrs)+len(o.gateways) > 0:
		return errors.New("--net wg has the addresses and routes of its file: --addr and --gw do not apply")
	}
	return nil
}

func openUDP(o *options, log *slog.Logger) (link.Link, error) {
	key, err := udp.ReadKey(o.netKey)
	if err != nil {
		return nil, fmt.Errorf("--net-key: %w", err)
	}
	return udp.Open(o.netArg, udp.Options{Key: key, Logger: log})
}

// lookupWait is how long the names of a WireGuard network's endpoints are looked up.
const lookupWait = 15 * time.Second

// openWG joins a WireGuard network. Addresses, routes and name servers are the
// file's.
func (n *network) openWG(o *options, cfg *netstack.Config, log *slog.Logger) (link.Link, error) {
	c, err := wg.ReadConfig(wg.FindConfig(o.netArg))
	if err != nil {
		return nil, fmt.Errorf("--net wg: %w", err)
	}
	for _, w := range c.Warnings {
		warn(w)
	}
	ctx, cancel := context.WithTimeout(context.Background(), lookupWait)
	defer cancel()
	l, err := wg.Open(ctx, c, wg.Options{Logger: log})
	if err != nil {
		return nil, fmt.Errorf("--net wg: %w", err)
	}
	cfg.Addrs = c.HostAddrs()
	for _, dst := range c.Routes() {
		cfg.Routes = append(cfg.Routes, netstack.Route{Dst: dst})
	}
	resolvers := relay.HostResolvers()
	n.redirect = func(dst netip.AddrPort) (netip.AddrPort, bool) { return c.RedirectDNS(dst, resolvers) }
	return l, nil
}

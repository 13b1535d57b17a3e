package command

import (
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/alptrace/alptrace/link/impair"
	"github.com/alptrace/alptrace/link/relay"
	"github.com/alptrace/alptrace/observe/ui"
	"github.com/alptrace/alptrace/rootd/proto"
	"github.com/spf13/pflag"
)

// options are what the command line asks for.
type options struct {
	net      string // kind of --net: auto, host, relay, wire, udp, wg, tun, tap, none
	netArg   string // what follows the colon
	addrs    []netip.Prefix
	gateways []netip.Addr
	publish  []relay.Publish
	rootd    string // the socket of rootd
	overlayOptions
	linuxOptions
	engine  string
	tcp     string // as --tcp
	mapTCP  string // the protocol that sockets of TCP get
	impair  impair.Config
	rec     records
	trace   string
	stats   bool
	ui      netip.AddrPort // where the page is; invalid: there is none
	debug   bool
	version bool
	argv    []string
}

var errHelp = errors.New("help")

// noValue is what --trace without a file stands for.
const noValue = "-"

type rawFlags struct {
	net, engine, tcp, trace string
	mapTCP                  string // as --map
	rec                     recordFlags
	overlayOptions
	linuxOptions
	ui                       string
	rootd                    string
	addrs, gateways, publish []string
	impair                   impairFlags
	stats, debug             bool
	version, help            bool
}

func flagSet(r *rawFlags) *pflag.FlagSet {
	f := pflag.NewFlagSet("alptrace", pflag.ContinueOnError)
	f.SetInterspersed(false) // what follows PROG is PROG's
	f.SortFlags = false
	f.Usage = func() {}
	f.StringVar(&r.net, "net", "auto", "the `NETWORK` that packets leave by: auto, host, relay, wire:DIR, udp:LISTEN,PEER..., wg:FILE, tun:NAME, tap:NAME or none")
	overlayFlags(f, &r.overlayOptions)
	f.StringArrayVar(&r.addrs, "addr", nil, "an address of the stack, as `CIDR` (repeatable; IPv4 and IPv6)")
	f.StringArrayVar(&r.gateways, "gw", nil, "default gateway `ADDR` (repeatable)")
	f.StringArrayVar(&r.publish, "publish", nil, "relay: a port of the host leads to one of the stack: `SPEC` is [ADDR:]HOSTPORT[:PORT][/udp] (repeatable)")
	f.StringVar(&r.rootd, "rootd", proto.DefaultSocket, "host: where rootd listens, as the path of a `SOCKET`")
	f.StringVar(&r.engine, "engine", "netstack", "the `ENGINE` that serves the sockets: netstack, host, linux=KERNEL or linux:TREE (docs/linux-engine.md)")
	linuxFlags(f, &r.linuxOptions)
	tcpFlag(f, &r.tcp)
	mapFlag(f, &r.mapTCP)
	f.StringVar(&r.impair.both, "impair", "", "make the network worse, both ways, as \"delay=50ms loss=1%\": words of `SPEC` (docs/impair.md)")
	f.StringVar(&r.impair.in, "impair-in", "", "what is received only: `SPEC`")
	f.StringVar(&r.impair.out, "impair-out", "", "what is sent only: `SPEC`")
	r.rec.register(f)
	f.StringVar(&r.trace, "trace", "", "write a line for every socket call to `FILE`, or to standard error")
	f.Lookup("trace").NoOptDefVal = noValue
	f.BoolVar(&r.stats, "stats", false, "print a table of calls, sockets, bytes and packets at exit")
	f.StringVar(&r.ui, "ui", "", "serve a page that shows the run, and controls its link, at `ADDR` of loopback: PORT, or 0 for any (docs/ui.md)")
	f.BoolVar(&r.debug, "debug", false, "log alptrace's own workings to standard error")
	f.BoolVar(&r.version, "version", false, "print the version and exit")
	f.BoolVarP(&r.help, "help", "h", false, "print this help and exit")
	return f
}

// parse reads the command line.
func parse(args []string) (*options, error) {
	var r rawFlags
	f := flagSet(&r)
	if err := f.Parse(args); err != nil {
		return nil, fmt.Errorf("%w (try --help)", err)
	}
	o := &options{overlayOptions: r.overlayOptions, linuxOptions: r.linuxOptions, rootd: r.rootd, engine: r.engine, tcp: r.tcp, trace: r.trace, stats: r.stats, debug: r.debug, version: r.version, argv: f.Args()}
	if r.help {
		return nil, errHelp
	}
	if r.version || r.genKey {
		return o, nil
	}
	if len(o.argv) == 0 {
		return nil, errors.New("no program given (try --help)")
	}
	return o, o.check(&r)
}

func (o *options) check(r *rawFlags) error {
	var colon bool
	o.net, o.netArg, colon = strings.Cut(r.net, ":")
	switch o.net {
	case "auto", "host", "relay", "none":
		if colon {
			return fmt.Errorf("--net %s takes no argument", o.net)
		}
	case "wire", "tun", "tap":
		if o.netArg == "" {
			return fmt.Errorf("--net %s: the name after the colon is missing (wire:DIR, tun:NAME, tap:NAME)", o.net)
		}
	case "udp", "wg":
		if err := o.checkOverlay(); err != nil {
			return err
		}
	default:
		return fmt.Errorf("--net %q: want auto, host, relay, wire:DIR, udp:LISTEN,PEER..., wg:FILE, tun:NAME, tap:NAME or none", r.net)
	}
	if err := o.checkLinux(); err != nil {
		return err
	}
	if o.engine != "netstack" && o.engine != "host" && o.engine != "linux" {
		return fmt.Errorf("--engine %q: want netstack, host, linux=KERNEL or linux:TREE", o.engine)
	}
	if err := o.checkTCP(); err != nil {
		return err
	}
	if err := o.checkMap(r.mapTCP); err != nil {
		return err
	}
	for _, s := range r.addrs {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return fmt.Errorf("--addr %q: want an address with prefix length, as 10.0.0.1/24", s)
		}
		o.addrs = append(o.addrs, p)
	}
	for _, s := range r.gateways {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return fmt.Errorf("--gw %q: want an IP address", s)
		}
		o.gateways = append(o.gateways, a)
	}
	for _, s := range r.publish {
		p, err := relay.ParsePublish(s)
		if err != nil {
			return fmt.Errorf("--publish: %w", err)
		}
		o.publish = append(o.publish, p)
	}
	var err error
	if o.impair, err = r.impair.parse(); err != nil {
		return err
	}
	if o.rec, err = r.rec.parse(); err != nil {
		return err
	}
	if r.ui != "" {
		if o.ui, err = ui.ParseAddr(r.ui); err != nil {
			return fmt.Errorf("--ui %w", err)
		}
	}
	return o.agree()
}

// impairFlags are --impair, --impair-in and --impair-out.
type impairFlags struct{ both, in, out string }

// parse reads them; what is said of one direction replaces what is said of both.
func (f *impairFlags) parse() (c impair.Config, err error) {
	for _, k := range []struct {
		name, spec string
		to         []*impair.Spec
	}{
		{"impair", f.both, []*impair.Spec{&c.In, &c.Out}},
		{"impair-in", f.in, []*impair.Spec{&c.In}},
		{"impair-out", f.out, []*impair.Spec{&c.Out}},
	} {
		if k.spec == "" {
			continue
		}
		s, err := impair.Parse(k.spec)
		if err != nil {
			return c, fmt.Errorf("--%s: %w", k.name, err)
		}
		for _, to := range k.to {
			*to = s
		}
	}
	return c, nil
}

// agree refuses flags that contradict each other.
func (o *options) agree() error {
	if o.engine == "host" {
		switch {
		case o.net != "auto" && o.net != "none":
			return errors.New("--engine host has the host's own network: --net does not apply")
		case len(o.addrs)+len(o.gateways)+len(o.publish) > 0:
			return errors.New("--engine host has the host's own addresses: --addr, --gw and --publish do not apply")
		case o.rec.pcap != "":
			return errors.New("--engine host has no link to capture on: --pcap does not apply")
		case o.rec.tcpLog != "":
			return errors.New("--engine host does not tell what its connections do: --tcp-log does not apply")
		case o.impair != impair.Config{}:
			return errors.New("--engine host has no link to impair: --impair does not apply")
		}
	}
	if err := o.agreeLinux(); err != nil {
		return err
	}
	// Addresses, gateways and published ports of its own are for the relay.
	if o.net == "auto" && len(o.addrs)+len(o.gateways)+len(o.publish) > 0 {
		o.net = "relay"
	}
	if len(o.publish) > 0 && o.net != "relay" {
		return errors.New("--publish needs --net relay")
	}
	if err := o.agreeOverlay(); err != nil {
		return err
	}
	switch o.net {
	case "host":
		if len(o.addrs)+len(o.gateways) > 0 {
			return errors.New("--net host has the host's own addresses: --addr and --gw do not apply")
		}
	case "wire", "udp", "tun", "tap":
		if len(o.addrs) == 0 {
			return fmt.Errorf("--net %s needs an address: --addr CIDR", o.net)
		}
	case "none":
		if len(o.addrs)+len(o.gateways) > 0 {
			return errors.New("--net none has no link: --addr and --gw do not apply")
		}
		if o.rec.pcap != "" || o.rec.tcpLog != "" {
			return errors.New("--net none has no link to capture on: --pcap and --tcp-log do not apply")
		}
		if (o.impair != impair.Config{}) {
			return errors.New("--net none has no link to impair: --impair does not apply")
		}
	}
	return nil
}

// optionalValues writes pflag's optional values as alptrace(1) does, in the same
// width.
var optionalValues = strings.NewReplacer(`--trace FILE[="-"]`, `--trace[=FILE]    `, `--klog FILE[="-"]`, `--klog[=FILE]    `, `[=true|false]`, `             `)

func usage() string {
	var r rawFlags
	return "Usage: alptrace [flags] [--] PROG [ARG...]\n\n" +
		"Run PROG with its network sockets served by a user-space stack.\n\nFlags:\n" +
		optionalValues.Replace(flagSet(&r).FlagUsages()) + "\nSee alptrace(1).\n"
}

// modulePath is that of the repository; a program built with additions has its
// own.
const modulePath = "github.com/alptrace/alptrace"

// version names the build.
func version() string {
	v := "devel"
	if bi, ok := debug.ReadBuildInfo(); ok {
		if bi.Main.Version != "" {
			v = bi.Main.Version
		}
		if bi.Main.Path != modulePath {
			v += " of " + bi.Main.Path
		}
		for _, d := range bi.Deps {
			if d.Path == "gvisor.dev/gvisor" {
				v += ", netstack " + d.Version
			}
		}
	}
	return fmt.Sprintf("alptrace %s (%s/%s, %s)", v, runtime.GOOS, runtime.GOARCH, runtime.Version())
}

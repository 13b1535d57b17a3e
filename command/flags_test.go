package command

import (
	"cmp"
	"errors"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/alptrace/alptrace/link/impair"
	"github.com/alptrace/alptrace/link/relay"
	"github.com/alptrace/alptrace/rootd/proto"
)

func TestParse(t *testing.T) {
	prefixes := func(s ...string) (p []netip.Prefix) {
		for _, s := range s {
			p = append(p, netip.MustParsePrefix(s))
		}
		return p
	}
	web := relay.Publish{Host: netip.MustParseAddrPort("127.0.0.1:8080"), Proto: "tcp", Port: 80}
	dns := relay.Publish{Host: netip.MustParseAddrPort("[::]:5353"), Proto: "udp", Port: 5353}
	for _, c := range []struct {
		args string
		want options // beside the defaults
	}{
		{"true", options{}},
		{"-- true", options{}},
		{"curl -h --net none -- x", options{argv: []string{"curl", "-h", "--net", "none", "--", "x"}}},
		{"-- --stats -x", options{argv: []string{"--stats", "-x"}}},
		{"--stats --debug true", options{stats: true, debug: true}},
		{"--stats=false true", options{}},
		{"--trace true", options{trace: "-"}},
		{"--trace=f true", options{trace: "f"}},
		{"--trace f true", options{trace: "-", argv: []string{"f", "true"}}},
		{"--ui :0 true", options{ui: netip.MustParseAddrPort("127.0.0.1:0")}},
		{"--ui 8080 true", options{ui: netip.MustParseAddrPort("127.0.0.1:8080")}},
		{"--ui [::1]:0 true", options{ui: netip.MustParseAddrPort("[::1]:0")}},
		{"--pcap f.pcapng true", options{rec: records{pcap: "f.pcapng"}}},
		{"--pcap=f.pcapng true", options{rec: records{pcap: "f.pcapng"}}},
		{"--pcap - --tcp-log f true", options{rec: records{pcap: "-", tcpLog: "f"}}},
		{"--pcap f --pcap-size 1.5MB --pcap-files 10 true", options{rec: records{pcap: "f", pcapSize: 1500000, pcapFiles: 10}}},
		{"--pcap f --pcap-size 64KiB true", options{rec: records{pcap: "f", pcapSize: 65536}}},
		{"--impair delay=5ms true", options{impair: impair.Config{In: impair.Spec{Delay: 5e6}, Out: impair.Spec{Delay: 5e6}}}},
		{"--impair-out loss=50% --impair delay=5ms true", options{impair: impair.Config{In: impair.Spec{Delay: 5e6}, Out: impair.Spec{Loss: 0.5}}}},
		{"--impair-in dup=50% true", options{impair: impair.Config{In: impair.Spec{Dup: 0.5}}}},
		{"--net host true", options{net: "host"}},
		{"--net host --rootd /tmp/s --pcap f true", options{net: "host", rootd: "/tmp/s", rec: records{pcap: "f"}}},
		{"--net relay true", options{net: "relay"}},
		{"--net none true", options{net: "none"}},
		{"--net wire:/tmp/a:b --addr 10.0.0.1/24 true", options{net: "wire", netArg: "/tmp/a:b", addrs: prefixes("10.0.0.1/24")}},
		{
			"--net tun:t0 --addr 10.0.0.1/24 --addr fd00::1/64 --gw 10.0.0.254 --gw fd00::ff true",
			options{
				net: "tun", netArg: "t0", addrs: prefixes("10.0.0.1/24", "fd00::1/64"),
				gateways: []netip.Addr{netip.MustParseAddr("10.0.0.254"), netip.MustParseAddr("fd00::ff")},
			},
		},
		{"--net tap:t0 --addr=10.0.0.1/24 true", options{net: "tap", netArg: "t0", addrs: prefixes("10.0.0.1/24")}},
		{
			"--net udp:[::]:7000,b:7001 --net-key k --addr 10.0.0.1/24 true",
			options{net: "udp", netArg: "[::]:7000,b:7001", overlayOptions: overlayOptions{netKey: "k"}, addrs: prefixes("10.0.0.1/24")},
		},
		{"--net wg:wg0.conf true", options{net: "wg", netArg: "wg0.conf"}},
		{"--gen-key", options{overlayOptions: overlayOptions{genKey: true}, net: "-"}},
		{"--net none --net relay true", options{net: "relay"}},
		{"--publish 8080:80 true", options{net: "relay", publish: []relay.Publish{web}}},
		{"--net relay --publish 8080:80 --publish [::]:5353/udp true", options{net: "relay", publish: []relay.Publish{web, dns}}},
		{"--addr 10.1.0.1/24 true", options{net: "relay", addrs: prefixes("10.1.0.1/24")}},
		{"--gw 10.1.0.2 true", options{net: "relay", gateways: []netip.Addr{netip.MustParseAddr("10.1.0.2")}}},
		{"--engine host true", options{engine: "host"}},
		{"--engine host --net none true", options{engine: "host", net: "none"}},
		{"--engine netstack true", options{}},
		{"--version", options{version: true, net: "-"}},
		{"--version --net nonsense", options{version: true, net: "-"}},
	} {
		t.Run(c.args, func(t *testing.T) {
			got, err := parse(strings.Fields(c.args))
			if err != nil {
				t.Fatal(err)
			}
			want := c.want
			want.net = cmp.Or(want.net, "auto")
			want.engine = cmp.Or(want.engine, "netstack")
			want.tcp = cmp.Or(want.tcp, "gvisor")
			want.rootd = cmp.Or(want.rootd, proto.DefaultSocket)
			if want.version || want.genKey { // nothing else counts
				want.net, want.argv = "", []string{}
			} else if want.argv == nil {
				want.argv = []string{"true"}
			}
			if !reflect.DeepEqual(*got, want) {
				t.Errorf("got %+v, want %+v", *got, want)
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct{ args, want string }{
		{"", "no program"},
		{"--", "no program"},
		{"--stats", "no program"},
		{"--nonsense true", "unknown flag: --nonsense"},
		{"-x true", "unknown shorthand flag: 'x'"},
		{"--net", "needs an argument: --net"},
		{"--stats=perhaps true", "invalid argument"},
		{"--net nonsense true", `--net "nonsense": want`},
		{"--net= true", `--net "": want`},
		{"--net relay:x true", "--net relay takes no argument"},
		{"--net none: true", "--net none takes no argument"},
		{"--net host:eth0 true", "--net host takes no argument"},
		{"--net auto:x true", "--net auto takes no argument"},
		{"--net wire true", "--net wire: the name after the colon is missing"},
		{"--net tun: true", "--net tun: the name after the colon is missing"},
		{"--net tap --addr 10.0.0.1/24 true", "--net tap: the name after the colon is missing"},
		{"--net wire:d true", "--net wire needs an address"},
		{"--net tun:t true", "--net tun needs an address"},
		{"--net tap:t --gw 10.0.0.1 true", "--net tap needs an address"},
		{"--net none --addr 10.0.0.1/24 true", "--net none has no link"},
		{"--net none --gw 10.0.0.1 true", "--net none has no link"},
		{"--net none --pcap f true", "--net none has no link to capture on"},
		{"--net host --addr 10.0.0.1/24 true", "--net host has the host's own addresses"},
		{"--net host --gw 10.0.0.1 true", "--net host has the host's own addresses"},
		{"--ui 0.0.0.0:8080 true", `--ui "0.0.0.0:8080": only loopback`},
		{"--ui example.org:8080 true", `--ui "example.org:8080": want`},
		{"--net udp true", "--net udp: where to listen"},
		{"--net udp:7000 --net-key k --addr 10.0.0.1/24 true", `--net udp: listen on "7000"`},
		{"--net udp::7000 --addr 10.0.0.1/24 true", "--net udp needs a key"},
		{"--net udp::7000 --net-key k true", "--net udp needs an address"},
		{"--net relay --net-key k true", "--net-key needs --net udp"},
		{"--net wg: true", "--net wg: the file is missing"},
		{"--net wg:f --addr 10.0.0.1/24 true", "--addr and --gw do not apply"},
		{"--addr 10.0.0.1 true", `--addr "10.0.0.1": want`},
		{"--addr 10.0.0.1/33 true", `--addr "10.0.0.1/33": want`},
		{"--addr host/24 true", `--addr "host/24": want`},
		{"--gw 10.0.0.1/24 true", `--gw "10.0.0.1/24": want`},
		{"--gw router true", `--gw "router": want`},
		{"--publish 80:80:80:80 true", "--publish: "},
		{"--publish x true", "--publish: "},
		{"--net tun:t --addr 10.0.0.1/24 --publish 80:80 true", "--publish needs --net relay"},
		{"--net none --publish 80:80 true", "--publish needs --net relay"},
		{"--net host --publish 80:80 true", "--publish needs --net relay"},
		{"--engine plan9 true", `--engine "plan9": want`},
		{"--engine host --net relay true", "--net does not apply"},
		{"--engine host --net tun:t --addr 10.0.0.1/24 true", "--net does not apply"},
		{"--engine host --addr 10.0.0.1/24 true", "do not apply"},
		{"--engine host --gw 10.0.0.1 true", "do not apply"},
		{"--engine host --publish 80:80 true", "do not apply"},
		{"--engine host --pcap f true", "--pcap does not apply"},
		{"--engine host --impair loss=1% true", "--impair does not apply"},
		{"--net none --impair-in loss=1% true", "--impair does not apply"},
		{"--engine host --tcp-log f true", "--tcp-log does not apply"},
		{"--net none --tcp-log f true", "--tcp-log do not apply"},
		{"--pcap-size 1MB true", "--pcap-size needs --pcap FILE"},
		{"--pcap - --pcap-size 1MB true", "--pcap-size needs --pcap FILE"},
		{"--pcap f --pcap-files 3 true", "--pcap-files needs --pcap-size"},
		{"--pcap f --pcap-size 1MB --pcap-files -1 true", "--pcap-files -1: want"},
		{"--pcap f --pcap-size 1M true", `--pcap-size "1M": want bytes`},
		{"--pcap f --pcap-size 0 true", `--pcap-size "0": want bytes`},
		{"--pcap f --pcap-size 1e99GB true", "want bytes"},
		{"--pcap - --tcp-log - true", "cannot both go to standard output"},
		{"--impair-in los=1% true", `--impair-in: "los=1%": unknown word, want delay`},
	} {
		t.Run(c.args, func(t *testing.T) {
			_, err := parse(strings.Fields(c.args))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want %s", err, c.want)
			}
		})
	}
}

func TestParseHelp(t *testing.T) {
	for _, args := range []string{"--help", "-h", "-h true", "--net nonsense --help"} {
		if _, err := parse(strings.Fields(args)); !errors.Is(err, errHelp) {
			t.Errorf("%s: %v", args, err)
		}
	}
	if o, err := parse([]string{"true", "--help"}); err != nil || len(o.argv) != 2 {
		t.Errorf("--help of the program: %+v, %v", o, err)
	}
}

// TestUsage: the help names every flag, in the form that it has.
func TestUsage(t *testing.T) {
	text := usage()
	for _, want := range []string{
		"--net NETWORK ", "--addr CIDR ", "--gw ADDR ", "--publish SPEC ", "--rootd SOCKET ", "--engine ENGINE ",
		"--impair SPEC ", "--impair-in SPEC ", "--impair-out SPEC ",
		"--pcap FILE ", "--pcap-size SIZE ", "--pcap-files COUNT ", "--tcp-log FILE ", "--trace[=FILE] ", "--stats ", "--net-key FILE ", "--gen-key ", "--ui ADDR ", "--debug ", "--version ", "-h, --help ",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	for _, not := range []string{"=true|false", `[="-"]`} {
		if strings.Contains(text, not) {
			t.Errorf("%q in\n%s", not, text)
		}
	}
}

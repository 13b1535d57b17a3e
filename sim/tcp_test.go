package sim

import (
	"fmt"
	"strings"
	"testing"

	"github.com/alptrace/alptrace/lab/topo"
)

// TestIPv6: all kinds of traffic over IPv6, by routers of the simulator's own, a
// link of a smaller MTU in between, and a switch.
func TestIPv6(t *testing.T) {
	r := run(t, `
seed = 3
duration = "30s"
[host.a]
traffic = [
    {kind = "bulk", to = "b", bytes = "2MB", ip = 6},
    {kind = "bulk", to = "b", bytes = "2MB", ip = 4, port = 5001},
    {kind = "reqresp", to = "b", bytes = "200kB", ip = 6},
    {kind = "echo", to = "b", interval = "100ms", bytes = "1kB", ip = 6},
    {kind = "onoff", to = "b", rate = "1mbit", bytes = "100kB", ip = 6},
    {kind = "bulk", to = "c", bytes = "1MB", ip = 6},
]
[host.b]
[host.c]
[router.r1]
[router.r2]
[switch.s]
[[link]]
between = ["a", "r1"]
[[link]]
name = "narrow"
between = ["r1", "r2"]
mtu = 1300
impair = "rate=20mbit delay=10ms queue=50p loss=0.5%"
[[link]]
between = ["r2", "s"]
[[link]]
between = ["s", "b"]
[[link]]
between = ["s", "c"]
`, Options{})
	for _, f := range r.Flows {
		if f.Corrupt != "" || f.Error != "" || !f.Done && f.Kind != "onoff" || f.Received == 0 {
			t.Errorf("%+v", f)
		}
	}
	if n := r.Routers["r1"].TooBig; n == 0 {
		t.Errorf("no Packet Too Big: %+v", r.Routers["r1"])
	}
}

// TestIPv6Only: a host without IPv4 is found, and one that lacks what the traffic
// asks for is said.
func TestIPv6Only(t *testing.T) {
	const lab = `
[host.a]
traffic = [{kind = "bulk", to = "b", bytes = "100kB"%s}]
[host.b]
[[link]]
between = ["a", "b"]
addrs = ["fd01::1/64", "fd01::2/64"]
`
	if f := run(t, fmt.Sprintf(lab, ""), Options{}).Flows[0]; !f.Done || f.Received != 1e5 {
		t.Errorf("%+v", f)
	}
	l, err := topo.Parse("test.toml", fmt.Appendf(nil, lab, ", ip = 4"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Load(l, Options{}); err == nil || !strings.Contains(err.Error(), "test.toml:3:12: traffic to b") {
		t.Error(err)
	}
}

// outages is a link that is often down.
const outages = `
seed = 1
duration = "60s"
[host.a]
%s
traffic = [{kind = "bulk", to = "b", bytes = "3MB"%s}]
[host.b]
%[1]s
[[link]]
between = ["a", "b"]
impair = "rate=8mbit delay=5ms queue=50p down=500ms@2s"
`

// TestOutages: a flow survives them, by each TCP. It needs 3 s without, and 4 s
// with them; most of the rest is waited for retransmission timeouts.
func TestOutages(t *testing.T) {
	for _, c := range []struct{ host, flow string }{
		{"", ""},
		{`tcp = "gvisor"`, `, cc = "reno"`},
		{`tcp = "alp"`, ""},
		{`tcp = "alp,cc=reno"`, `, cc = "cubic"`},
	} {
		f := run(t, fmt.Sprintf(outages, c.host, c.flow), Options{}).Flows[0]
		t.Logf("%s%s: %.1f s", c.host, c.flow, f.Completion)
		if !f.Done || f.Corrupt != "" || f.Completion > 8 {
			t.Errorf("%s%s: %+v", c.host, c.flow, f)
		}
	}
}

// TestTCP: a host's TCP is what the file says, and its congestion control what the
// flow says.
func TestTCP(t *testing.T) {
	hash := make(map[string]string)
	for _, tcp := range []string{"gvisor", "alp", "alp,cc=reno", "alp,cc=bbr"} {
		r := run(t, fmt.Sprintf(`
seed = 1
duration = "10s"
[host.a]
tcp = %q
traffic = [{kind = "bulk", to = "b"}]
[host.b]
[[link]]
between = ["a", "b"]
impair = "rate=10mbit delay=20ms queue=30p"
`, tcp), Options{})
		if f := r.Flows[0]; f.Goodput < 7e6 || f.Corrupt != "" {
			t.Errorf("%s: %+v", tcp, f)
		}
		if other, ok := hash[r.Hash]; ok {
			t.Errorf("%s and %s send the same packets", tcp, other)
		}
		hash[r.Hash] = tcp
	}
	lab, err := topo.Parse("test.toml", []byte("[host.a]\ntcp = \"alp,cc=none\"\n"), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Load(lab, Options{}); err == nil || !strings.Contains(err.Error(), "test.toml:2:7: tcp: alp") {
		t.Error(err)
	}
}

package policy

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

type fakeNames map[string]uint32

func (n fakeNames) UID(name string) (uint32, error) {
	if id, ok := n[name]; ok {
		return id, nil
	}
	return 0, errors.New("unknown name " + name)
}
func (n fakeNames) GID(name string) (uint32, error) { return n.UID(name) }

var someNames = fakeNames{"alice": 1000, "bob": 1001, "www": 33, "web": 500}

const sample = `
[limits]
leases = 64
grants = 30000

[default]
grants = 100

# the web server
[[access]]
users = ["www"]
groups = ["web", "77"]
grants = 5000
[[access.bind]]
protocols = ["tcp"]
ports = [80, "443", "8000-8999"]
addresses = ["192.0.2.1", "2001:db8::/32"]
[[access.bind]]
protocols = ["udp"]

[[access]]
users = ["bob"]
deny = true

[[access]]
users = ["*"]
reach = ["10.0.0.0/8"]
bind = [{ ports = ["unprivileged"] }]
leases = 2
rate = 7
`

func TestAccess(t *testing.T) {
	a, err := ParseAccess([]byte(sample), someNames)
	if err != nil {
		t.Fatal(err)
	}
	if a.Leases != 64 || a.Grants != 30000 {
		t.Errorf("limits %+v", a)
	}
	www, group, num := a.For(Peer{UID: 33}), a.For(Peer{UID: 9, GIDs: []uint32{1, 500}}), a.For(Peer{UID: 1001, GIDs: []uint32{77}})
	if !reflect.DeepEqual(www, group) || !reflect.DeepEqual(www, num) {
		t.Errorf("a user and members of the groups differ: %+v, %+v, %+v", www, group, num)
	}
	if www.Grants != 5000 || www.Leases != defaultLeases || www.Rule != "line 10" {
		t.Errorf("%+v", www)
	}
	if bob := a.For(Peer{UID: 1001}); !bob.Deny {
		t.Errorf("bob: %+v", bob)
	}
	other := a.For(Peer{UID: 4000})
	if other.Leases != 2 || other.Rate != 7 || other.Grants != 100 || len(other.Reach) != 1 {
		t.Errorf("everyone: %+v", other)
	}
	for _, c := range []struct {
		r     Rights
		proto uint8
		addr  string
		port  uint16
		want  bool
	}{
		{www, 6, "192.0.2.1", 80, true},
		{www, 6, "192.0.2.1", 443, true},
		{www, 6, "2001:db8::7", 8999, true},
		{www, 6, "192.0.2.1", 81, false},
		{www, 6, "192.0.2.1", 9000, false},
		{www, 6, "192.0.2.2", 80, false},
		{www, 6, "0.0.0.0", 80, false},
		{www, 6, "::", 80, false},
		{www, 17, "0.0.0.0", 5000, true},
		{www, 17, "0.0.0.0", 53, false},
		{www, 1, "0.0.0.0", 5000, false},
		{other, 6, "::", 1024, true},
		{other, 6, "::", 1023, false},
		{other, 1, "0.0.0.0", 3, true},
		{other, 58, "::", 3, true},
		{other, 132, "0.0.0.0", 5000, false},
		{a.For(Peer{UID: 1001}), 6, "0.0.0.0", 5000, false},
	} {
		if got := c.r.MayBind(c.proto, netip.MustParseAddr(c.addr), c.port, 1024); got != c.want {
			t.Errorf("%s: proto %d, %s port %d: %v", c.r.Rule, c.proto, c.addr, c.port, got)
		}
	}
}

func TestDefaultAccess(t *testing.T) {
	r := DefaultAccess().For(Peer{UID: 65534})
	if r.Deny || r.Reach != nil || !r.MayBind(6, netip.IPv6Unspecified(), 1024, 1024) ||
		r.MayBind(6, netip.IPv6Unspecified(), 1023, 1024) || r.MayBind(255, netip.IPv4Unspecified(), 5000, 1024) {
		t.Errorf("%+v", r)
	}
	// The host decides which ports are privileged.
	if !r.MayBind(17, netip.MustParseAddr("127.0.0.1"), 80, 0) {
		t.Error("port 80 with all ports unprivileged")
	}
}

func TestDefaultDenied(t *testing.T) {
	a, err := ParseAccess([]byte("[default]\ndeny = true\n[[access]]\nusers = ['alice']\n"), someNames)
	if err != nil {
		t.Fatal(err)
	}
	if a.For(Peer{UID: 1000}).Deny || !a.For(Peer{UID: 1}).Deny {
		t.Error("only alice may")
	}
}

func TestAccessErrors(t *testing.T) {
	for text, want := range map[string]string{
		"[limits]\nlease = 1\n":                                "line 2, column 1: unknown key",
		"\n\n[[acces]]\nusers=['alice']\n":                     "line 3, column 3: unknown key",
		"[[access]]\nusers=['alice']\n[[access.bind]]\nport=1": "line 4, column 1: unknown key",
		"x = \n":                   "line 1",
		"[default]\ngrants = -1\n": "line 2, column 10: limit",
		"[limits]\ngrants = 70000\n[default]\nbind = [{ports=[7]},{ports=[1, 70000]}]": "line 4, column 32: bad port",
		"[default]\ngrants = 'many'\n":                                          "line 2, column 10: limit",
		"[default]\nreach = ['10.0.0.1/8']\n":                                   "line 2, column 10: network",
		"[default]\nreach = ['ten']\n":                                          "line 2, column 10: bad address",
		"[default]\nbind = [{addresses=['0.0.0.0']}]\n":                         `"0.0.0.0/0"`,
		"[default]\nbind = [{ports=['9-1']}]\n":                                 "line 2, column 17: bad port range",
		"[default]\nbind = [{ports=[65536]}]\n":                                 "bad port range",
		"[default]\nbind = [{protocols=['raw']}]\n":                             `protocol "raw"`,
		"[[access]]\ndeny=true\n":                                               "line 1: access rule without users",
		"# a\n[[access]]\nusers=['alice']\n[[access]]\nusers=['nobody-such']\n": "line 4: users: unknown name",
		"[[access]]\ngroups=['*']\n":                                            "line 1: groups",
		"[[access]]\nusers=['']\n":                                              "line 1: users",
		"[[access]]\nusers=['4294967295']\n":                                    "line 1: users",
		"[default]\ndeny=1\n":                                                   "line 2",
	} {
		a, err := ParseAccess([]byte(text), someNames)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v, want %q", text, a, err, want)
		}
	}
}

func TestLoadAccess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p.toml")
	if _, err := LoadAccess(path); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	if err := os.WriteFile(path, []byte("[[access]]\nusers = ['root', '4000']\ngroups = ['root']\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a, err := LoadAccess(path)
	if err != nil || a.For(Peer{UID: 0}).Rule != "line 1" || a.For(Peer{UID: 4000}).Rule != "line 1" {
		t.Errorf("%+v, %v", a, err)
	}
	if err := os.WriteFile(path, make([]byte, maxPolicy+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := LoadAccess(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Error(err)
	}
}

func FuzzAccess(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte("[default]\ndeny = true\n[[access]]\nusers = ['alice']\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		a, err := ParseAccess(text, someNames)
		if (a == nil) == (err == nil) {
			t.Fatal(a, err)
		}
		if err != nil {
			return
		}
		for _, p := range []Peer{{UID: 1000}, {UID: 1, GIDs: []uint32{500}}} {
			r := a.For(p)
			if r.Leases < 0 || r.Grants < 0 || r.Rate < 0 || r.Rule == "" {
				t.Fatalf("%+v", r)
			}
			if r.MayBind(255, netip.IPv4Unspecified(), 5000, 1024) {
				t.Fatal("a raw protocol")
			}
		}
	})
}

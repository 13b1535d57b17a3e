package wg

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/internal/linktest"
)

const (
	keyA = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE="
	keyB = "AgICAgICAgICAgICAgICAgICAgICAgICAgICAgICAgI="
)

const full = `# of the provider
[Interface]
PrivateKey = ` + keyA + `
Address = 10.8.0.2/24, fd08::2/64   # two
address=10.8.1.2
DNS = 10.8.0.1, fd08::1
DNS = 9.9.9.9, example.org
MTU = 1380
ListenPort = 51820
Table = off
FwMark = 0x1234
PostUp = iptables -A FORWARD -i %i -j ACCEPT
SaveConfig = true

[Peer]
PublicKey = ` + keyB + `
PresharedKey = ` + keyA + `
AllowedIPs = 0.0.0.0/0,::/0
AllowedIPs = 10.8.0.7/24
Endpoint = vpn.example.org:51820
PersistentKeepalive = 25
[peer]
PublicKey=` + keyA + `
Endpoint = [fd00::1]:7
PersistentKeepalive = off
AllowedIPs =
`

func TestParseConfig(t *testing.T) {
	c, err := ParseConfig("/etc/wireguard/wg0.conf", []byte(full))
	if err != nil {
		t.Fatal(err)
	}
	if c.Name != "wg0" || c.MTU != 1380 || c.ListenPort != 51820 || fmt.Sprint(c.Addrs) != "[10.8.0.2/24 fd08::2/64 10.8.1.2/32]" ||
		fmt.Sprint(c.DNS) != "[10.8.0.1 fd08::1 9.9.9.9]" || fmt.Sprint(c.Search) != "[example.org]" || len(c.Peers) != 2 {
		t.Errorf("%+v", c)
	}
	p, q := c.Peers[0], c.Peers[1]
	if fmt.Sprint(p.AllowedIPs) != "[0.0.0.0/0 ::/0 10.8.0.0/24]" || p.Endpoint != "vpn.example.org:51820" || p.Keepalive != 25 ||
		p.PresharedKey == (Key{}) || q.Endpoint != "[fd00::1]:7" || q.Keepalive != 0 || len(q.AllowedIPs) != 0 {
		t.Errorf("%+v", c.Peers)
	}
	var lines []string
	for _, w := range c.Warnings {
		at, what, _ := strings.Cut(strings.TrimPrefix(w, "/etc/wireguard/wg0.conf:"), ": ")
		word, _, _ := strings.Cut(what, " ")
		lines = append(lines, at+" "+word)
	}
	if got, want := strings.Join(lines, ", "), "7 DNS:, 10 Table, 11 FwMark, 12 PostUp, 13 SaveConfig"; got != want {
		t.Errorf("warnings %s, want %s", got, want)
	}
	if got := fmt.Sprint(c.HostAddrs(), c.Routes()); got != "[10.8.0.2/32 fd08::2/128 10.8.1.2/32] [0.0.0.0/0 ::/0 10.8.0.0/24]" {
		t.Error(got)
	}
	c.Addrs = c.Addrs[:1]
	if got := fmt.Sprint(c.Routes()); got != "[0.0.0.0/0 10.8.0.0/24]" {
		t.Errorf("without an IPv6 address: %s", got)
	}
}

func TestParseErrors(t *testing.T) {
	iface := "[Interface]\nPrivateKey=" + keyA + "\nAddress=10.0.0.1/24\n"
	for _, c := range []struct{ text, want string }{
		{"", "f:1: no [Interface]"},
		{"[Interface]\nAddress=10.0.0.1/24", "f:1: [Interface] has no PrivateKey"},
		{"\n[Interface]\nPrivateKey=" + keyA, "f:2: [Interface] has no Address"},
		{"[Interface]\nPrivateKey=abc", "f:2: PrivateKey: want a key"},
		{"[Interface]\nPrivateKey=" + base64.StdEncoding.EncodeToString(make([]byte, 32)), "f:2: PrivateKey: the key is all zeros"},
		{iface + "Address=10.0.0.300", `f:4: Address: "10.0.0.300": want`},
		{iface + "MTU=20", `f:4: MTU: "20": want a number from 68`},
		{iface + "ListenPort=65536", "f:4: ListenPort"},
		{iface + "Nonsense=1", "f:4: Nonsense is no key of [interface]"},
		{iface + "PublicKey=" + keyB, "f:4: PublicKey is no key of [interface]"},
		{iface + "MTU=1400\nMTU=1401", "f:5: MTU again, the first is at line 4"},
		{iface + "[Interface]", "f:4: a second [Interface], the first is at line 1"},
		{iface + "[Pear]\nPublicKey=x", "f:4: section [Pear]: want"},
		{iface + "what", "f:4: want KEY = VALUE"},
		{"Key = 1\n" + iface, "f:1: Key before any [section]"},
		{iface + "[Peer]\nAllowedIPs=10.0.0.0/8", "f:4: [Peer] has no PublicKey"},
		{iface + "[Peer]\nPublicKey=" + keyB + "\nEndpoint=host", `f:6: Endpoint: "host": want HOST:PORT`},
		{iface + "[Peer]\nPublicKey=" + keyB + "\nAllowedIPs=10.0.0.0/33", "f:6: AllowedIPs:"},
		{iface + "[Peer]\nPublicKey=" + keyB + "\nPersistentKeepalive=x", "f:6: PersistentKeepalive:"},
		{iface + "[Peer]\nPublicKey=" + keyB + "\n[Peer]\nPublicKey=" + keyB, "f:6: the peer of line 4 again"},
		{"[Interface]\nMTU=1\nListenPort=x", "f:2: MTU: \"1\": want a number from 68 to 65507\nf:3: ListenPort"},
	} {
		_, err := ParseConfig("f", []byte(c.text))
		want := strings.ReplaceAll(c.want, "65507", fmt.Sprint(maxMTU))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q:\n got %v\nwant %s", c.text, err, want)
		} else if strings.Contains(err.Error(), keyA) {
			t.Errorf("%q: the key is in the message", c.text)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(full))
	f.Add([]byte("[Interface]\n[peer]\nAllowedIPs=,\nx=\n[x]\ny=1"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := ParseConfig("f", text)
		if (c == nil) == (err == nil) {
			t.Fatalf("%v, %v", c, err)
		}
		if err == nil {
			settings(c, make([]netip.AddrPort, len(c.Peers)))
			c.Routes()
		}
	})
}

func TestReadConfig(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "v.conf")
	text := "[Interface]\nPrivateKey=" + keyA + "\nAddress=10.0.0.1/24\n"
	for _, m := range []struct {
		dir, file os.FileMode
		warned    bool
	}{{0o755, 0o600, false}, {0o755, 0o644, true}, {0o700, 0o644, false}} {
		if err := errors.Join(os.WriteFile(path, []byte(text), 0o600), os.Chmod(path, m.file), os.Chmod(dir, m.dir)); err != nil {
			t.Fatal(err)
		}
		c, err := ReadConfig(path)
		if err != nil || len(c.Warnings) == 1 != m.warned {
			t.Errorf("mode %o in %o: %v, %v", m.file, m.dir, c, err)
		}
	}
	t.Chdir(dir)
	for name, want := range map[string]string{"v.conf": "v.conf", "v": "/etc/wireguard/v.conf", "./v": "./v"} {
		if got := FindConfig(name); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
}

func TestRedirectDNS(t *testing.T) {
	addrs := func(s ...string) (l []netip.AddrPort) {
		for _, a := range s {
			l = append(l, netip.MustParseAddrPort(a))
		}
		return l
	}
	resolvers := func() []netip.AddrPort { return addrs("127.0.0.53:53", "[::1]:53", "192.0.2.1:53") }
	c := &Config{DNS: []netip.Addr{netip.MustParseAddr("10.8.0.1"), netip.MustParseAddr("10.8.0.9")}}
	for dst, want := range map[string]string{
		"127.0.0.53:53":          "10.8.0.1:53",
		"[::ffff:127.0.0.53]:53": "10.8.0.1:53",
		"192.0.2.1:53":           "10.8.0.1:53",
		"127.0.0.53:80":          "",
		"[::1]:53":               "", // no server of that family
		"8.8.8.8:53":             "",
	} {
		to, ok := c.RedirectDNS(netip.MustParseAddrPort(dst), resolvers)
		if ok != (want != "") || ok && to.String() != want {
			t.Errorf("%s: %v, %v", dst, to, ok)
		}
	}
}

// end is a link that keeps what it receives.
type end struct {
	*Link
	*linktest.Sink
}

// keyPair is a private key and its public one, in base64.
func keyPair(t testing.TB) (private, public string) {
	t.Helper()
	k, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(k.Bytes()), base64.StdEncoding.EncodeToString(k.PublicKey().Bytes())
}

func openText(t testing.TB, text string) *end {
	t.Helper()
	c, err := ParseConfig("test.conf", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	l, err := Open(ctx, c, Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return &end{l, linktest.Start(t, l)}
}

// freePort is a UDP port that nobody has.
func freePort(t testing.TB) int {
	t.Helper()
	c, err := net.ListenPacket("udp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).Port
}

// ends are two ends of a network; the second one knows where the first is. psk is
// the first's, and the second's.
func ends(t testing.TB, psk [2]string) (a, b *end) {
	t.Helper()
	pa, qa := keyPair(t)
	pb, qb := keyPair(t)
	port := freePort(t)
	a = openText(t, fmt.Sprintf("[Interface]\nPrivateKey=%s\nAddress=10.9.0.1/32\nListenPort=%d\n[Peer]\nPublicKey=%s\nPresharedKey=%s\nAllowedIPs=10.9.0.2/32\n", pa, port, qb, psk[0]))
	b = openText(t, fmt.Sprintf("[Interface]\nPrivateKey=%s\nAddress=10.9.0.2/32\n[Peer]\nPublicKey=%s\nPresharedKey=%s\nAllowedIPs=10.9.0.0/24\nEndpoint=localhost:%d\n", pb, qa, psk[1], port))
	return a, b
}

// packet is an IPv4 packet of n bytes of payload.
func packet(src, dst string, proto byte, n int) []byte {
	b := make([]byte, 20+n)
	b[0], b[8], b[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	s, d := netip.MustParseAddr(src).As4(), netip.MustParseAddr(dst).As4()
	copy(b[12:], s[:])
	copy(b[16:], d[:])
	binary.BigEndian.PutUint16(b[10:], ^link.Checksum(b[:20], 0))
	for i := range n {
		b[20+i] = byte(i * 7)
	}
	return b
}

// TestTwoEnds: packets cross both ways, TCP is cut and joined, and what the peer
// is not allowed to have, or to send, is lost.
func TestTwoEnds(t *testing.T) {
	a, b := ends(t, [2]string{keyA, keyA})
	there := packet("10.9.0.2", "10.9.0.1", 200, 1000)
	linktest.Send(t, b, link.Packet{Bufs: [][]byte{there[:7], there[7:]}})
	if got, _ := a.Take(1, 5*time.Second); len(got) != 1 || !bytes.Equal(got[0], there) {
		t.Fatalf("%d packets", len(got))
	}
	linktest.Send(t, b, link.Packet{Bufs: [][]byte{packet("10.9.0.3", "10.9.0.1", 200, 10)}}) // not b's address
	back := packet("10.9.0.1", "10.9.0.2", 200, 1400)
	linktest.Send(t, a, link.Packet{Bufs: [][]byte{packet("10.9.0.1", "10.9.0.3", 200, 10)}}) // nobody's
	linktest.Send(t, a, link.Packet{Bufs: [][]byte{back}})
	if got, _ := b.Take(1, 5*time.Second); len(got) != 1 || !bytes.Equal(got[0], back) {
		t.Fatalf("back: %d packets", len(got))
	}
	tcp := packet("10.9.0.1", "10.9.0.2", 6, 20+60000)
	copy(tcp[20:], []byte{1, 2, 3, 4, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 1, 0, 0, 0, 0})
	linktest.Send(t, a, link.Packet{Bufs: [][]byte{slices.Clone(tcp)}, Offload: link.Offload{NeedsCsum: true, CsumStart: 20, CsumOffset: 16, GSO: link.GSOTCP4, GSOSize: 1460, HdrLen: 40}})
	var data []byte
	for end := time.Now().Add(5 * time.Second); len(data) < 60000 && time.Now().Before(end); {
		got, offs := b.Take(1, time.Second)
		for i := range got {
			data = append(data, got[i][40:]...)
			if !offs[i].CsumValid {
				t.Error("checksum not said to be good")
			}
		}
	}
	if !bytes.Equal(data, tcp[40:]) {
		t.Errorf("%d bytes of TCP", len(data))
	}
	if got, _ := a.Take(1, 0); len(got) != 0 {
		t.Errorf("%d packets that a peer may not send", len(got))
	}
	if n, err := a.Send([]link.Packet{{Bufs: [][]byte{packet("10.9.0.1", "10.9.0.2", 200, DefaultMTU)}}}); n != 0 || !errors.Is(err, unix.EMSGSIZE) {
		t.Errorf("giant: %d, %v", n, err)
	}
}

func TestWrongKey(t *testing.T) {
	a, b := ends(t, [2]string{keyA, keyB})
	linktest.Send(t, b, link.Packet{Bufs: [][]byte{packet("10.9.0.2", "10.9.0.1", 200, 10)}})
	if got, _ := a.Take(1, 500*time.Millisecond); len(got) != 0 {
		t.Error("a packet of one with another preshared key")
	}
}

func TestOpenAndClose(t *testing.T) {
	priv, pub := keyPair(t)
	text := fmt.Sprintf("[Interface]\nPrivateKey=%s\nAddress=10.9.0.1/32\nListenPort=%d\n", priv, freePort(t))
	e := openText(t, text)
	if e.Start(func([]link.Packet) {}) == nil {
		t.Error("started twice")
	}
	c, err := ParseConfig("twice.conf", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), c, Options{}); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("a port in use: %v", err)
	}
	for range 2 {
		if err := e.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := e.Send(nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("send: %v", err)
	}
	c, err = ParseConfig("name.conf", []byte(text+"[Peer]\nPublicKey="+pub+"\nEndpoint=no.such.name.invalid:1\n"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := Open(ctx, c, Options{}); err == nil || !strings.Contains(err.Error(), "name.conf:7: Endpoint: ") {
		t.Errorf("a name that is none: %v", err)
	}
}

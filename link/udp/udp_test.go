package udp

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/internal/linktest"
)

var testKey = Key{1, 2, 3}

// member is a member that keeps what it receives.
type member struct {
	*Link
	*linktest.Sink
}

func join(t testing.TB, spec string, opts Options) *member {
	t.Helper()
	if opts.Key == (Key{}) {
		opts.Key = testKey
	}
	if strings.HasSuffix(spec, ":0") {
		spec += ",127.0.0.1:9" // where nobody is
	}
	l, err := Open(spec, opts)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return &member{l, linktest.Start(t, l)}
}

func (m *member) take(n int) ([][]byte, []link.Offload) { return m.Take(n, linktest.Patience) }

func (m *member) frame(dst net.HardwareAddr, payload []byte) link.Packet {
	return linktest.Frame(m, dst, payload)
}

func (m *member) send(t testing.TB, p link.Packet) {
	t.Helper()
	linktest.Send(t, m, p)
}

// at is where the member is, on loopback.
func (m *member) at() string {
	return fmt.Sprintf("127.0.0.1:%d", m.LocalAddr().Port())
}

func (m *member) members(t testing.TB, n int) {
	t.Helper()
	linktest.Eventually(t, fmt.Sprintf("%d other members", n), func() bool { return m.Stats().Members == n })
}

var broadcast = linktest.Broadcast

// TestThree: two members that know only the first find each other; frames are
// flooded, then go one way; who leaves is missed at once.
func TestThree(t *testing.T) {
	a := join(t, "127.0.0.1:0,localhost:9", Options{})
	b := join(t, "127.0.0.1:0,"+a.at(), Options{})
	c := join(t, fmt.Sprintf(":0,localhost:%d", a.LocalAddr().Port()), Options{}) // by name, both families
	for _, m := range []*member{a, b, c} {
		m.members(t, 2)
	}
	a.send(t, a.frame(broadcast, []byte("who")))
	for _, m := range []*member{b, c} {
		if got, _ := m.take(1); len(got) != 1 || string(got[0][14:]) != "who" {
			t.Fatalf("broadcast: %q", got)
		}
	}
	b.send(t, b.frame(a.HardwareAddr(), []byte("me")))
	c.send(t, c.frame(b.HardwareAddr(), []byte("hi b")))
	if got, _ := b.take(1); len(got) != 1 || string(got[0][14:]) != "hi b" {
		t.Fatalf("c to b: %q", got)
	}
	if got, _ := a.take(1); len(got) != 1 || string(got[0][14:]) != "me" {
		t.Fatalf("b to a: %q", got)
	}
	a.send(t, a.frame(b.HardwareAddr(), []byte("you")))
	if got, _ := b.take(1); len(got) != 1 || string(got[0][14:]) != "you" {
		t.Fatalf("a to b: %q", got)
	}
	if s := c.Stats(); s.RxOther != 0 {
		t.Errorf("c was sent another's frame: %+v", s)
	}
	_ = b.Close()
	a.members(t, 1)
	c.members(t, 1)
}

// TestFirstFrameIsNotLost: what is sent at once arrives, though there is no
// session yet.
func TestFirstFrameIsNotLost(t *testing.T) {
	a := join(t, "127.0.0.1:0", Options{})
	b := join(t, "127.0.0.1:0,"+a.at(), Options{})
	b.send(t, b.frame(broadcast, []byte("first")))
	if got, _ := a.take(1); len(got) != 1 || string(got[0][14:]) != "first" {
		t.Errorf("%q", got)
	}
}

// TestSegments: TCP that is to be cut is cut to the MTU, arrives whole and in
// order, and joined; also where the kernel does not cut datagrams.
func TestSegments(t *testing.T) {
	for _, single := range []bool{false, true} {
		a := join(t, "127.0.0.1:0", Options{})
		b := join(t, "127.0.0.1:0,"+a.at(), Options{})
		a.members(t, 1)
		b.members(t, 1)
		a.tx.mu.Lock()
		a.net.Members()[0].single = single
		a.tx.mu.Unlock()
		p := linktest.Segments(a, b.HardwareAddr())
		a.send(t, p)
		var data []byte
		pieces := 0
		for end := time.Now().Add(5 * time.Second); len(data) < 65000 && time.Now().Before(end); {
			got, offs := b.take(1)
			for i, f := range got {
				pieces++
				if !offs[i].CsumValid {
					t.Error("checksum not said to be good")
				}
				data = append(data, f[54:]...)
				if n := int(offs[i].GSOSize) + 40; n > DefaultMTU {
					t.Errorf("segments of %d bytes", n)
				}
			}
		}
		if !bytes.Equal(data, p.Bufs[1][40:]) {
			t.Fatalf("%d bytes arrived", len(data))
		}
		t.Logf("single %v: %d packets", single, pieces)
		if pieces > 40 {
			t.Errorf("%d packets of 48 segments", pieces)
		}
		if n, err := a.Send([]link.Packet{a.frame(b.HardwareAddr(), make([]byte, DefaultMTU+5))}); n != 0 || !errors.Is(err, unix.EMSGSIZE) {
			t.Errorf("giant: %d, %v", n, err)
		}
		_ = a.Close()
		_ = b.Close()
	}
}

// TestRestart: a member that ends without a word, and another at its address.
func TestRestart(t *testing.T) {
	a := join(t, "127.0.0.1:0", Options{})
	b := join(t, "127.0.0.1:0,"+a.at(), Options{})
	b.members(t, 1)
	spec := a.at()
	a.tx.close() // nothing is said any more
	_ = a.Close()
	a2 := join(t, spec+","+b.at(), Options{})
	a2.members(t, 1)
	linktest.Eventually(t, "the new one is known, the old one is not", func() bool {
		p := b.net.Members()
		return len(p) == 1 && p[0].who.id != [idLen]byte{} && b.reaches(a2)
	})
	// Without knowing b, it is met by b's asking.
	_ = b.Close()
	b2 := join(t, "127.0.0.1:0,"+spec, Options{})
	b2.members(t, 1)
	a2.tx.close()
	_ = a2.Close()
	join(t, spec, Options{}).members(t, 0)
}

// reaches says whether a broadcast arrives.
func (m *member) reaches(o *member) bool {
	_, _ = m.Send([]link.Packet{m.frame(broadcast, []byte("there?"))})
	return o.Hears(50 * time.Millisecond)
}

// TestSilentPeerComesBack: a member that was restarted, knows nobody and is sent
// frames is met again within seconds.
func TestSilentPeerComesBack(t *testing.T) {
	a := join(t, "127.0.0.1:0", Options{})
	b := join(t, "127.0.0.1:0,"+a.at(), Options{})
	b.members(t, 1)
	spec := a.at()
	a.tx.close()
	_ = a.Close()
	a2 := join(t, spec, Options{})
	t0 := time.Now()
	linktest.Eventually(t, "met again", func() bool { return b.reaches(a2) })
	t.Logf("after %v", time.Since(t0).Round(time.Millisecond))
}

// TestWrongKey: nothing of one with another key arrives, and it gets no answer.
func TestWrongKey(t *testing.T) {
	a := join(t, "127.0.0.1:0", Options{})
	evil := join(t, "127.0.0.1:0,"+a.at(), Options{Key: Key{9}})
	good := join(t, "127.0.0.1:0,"+a.at(), Options{})
	good.members(t, 1)
	evil.send(t, evil.frame(broadcast, []byte("let me in")))
	good.send(t, good.frame(broadcast, []byte("good")))
	if got, _ := a.take(1); len(got) != 1 || string(got[0][14:]) != "good" {
		t.Errorf("%q", got)
	}
	linktest.Eventually(t, "initiations refused", func() bool { return a.Stats().RxDropped >= 2 })
	if evil.Stats().Members != 0 || a.Stats().Members != 1 || evil.Stats().RxDropped != 0 {
		t.Errorf("evil %+v, a %+v", evil.Stats(), a.Stats())
	}
}

// TestLoopAndSelf: a member that is told of itself, twice of another, and of
// nobody.
func TestLoopAndSelf(t *testing.T) {
	a := join(t, "127.0.0.1:0", Options{})
	port := a.LocalAddr().Port()
	_ = a.Close()
	a = join(t, fmt.Sprintf("127.0.0.1:%d,127.0.0.1:%d", port, port), Options{})
	b := join(t, fmt.Sprintf(":0,%s,localhost:%d,127.0.0.1:9", a.at(), port), Options{})
	b.members(t, 1)
	time.Sleep(600 * time.Millisecond)
	if b.Stats().Members != 1 || a.Stats().Members != 1 {
		t.Errorf("a %+v, b %+v", a.Stats(), b.Stats())
	}
	b.send(t, b.frame(broadcast, []byte("once")))
	a.take(1)
	time.Sleep(50 * time.Millisecond)
	if s := a.Stats(); s.Received != 1 {
		t.Errorf("a frame arrived %d times", s.Received)
	}
}

func TestClose(t *testing.T) {
	a := join(t, "127.0.0.1:0", Options{})
	if a.Start(nil) == nil {
		t.Error("started twice")
	}
	for range 2 {
		if err := a.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := a.Send(nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("send: %v", err)
	}
	if _, err := Open("127.0.0.1:1,x:y", Options{}); err == nil {
		t.Error("opened")
	}
	b := join(t, "127.0.0.1:0", Options{})
	if _, err := Open(b.at(), Options{}); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("an address in use: %v", err)
	}
	if _, err := Open("127.0.0.1:0,h:1", Options{MTU: 66000}); !errors.Is(err, unix.EINVAL) {
		t.Errorf("an MTU that cannot be: %v", err)
	}
}

func TestParseSpec(t *testing.T) {
	for _, c := range []struct{ spec, listen, peers, err string }{
		{":7000", "invalid AddrPort", "", ""},
		{"10.0.0.1:7000,b:7000,[fd00::1]:7", "10.0.0.1:7000", "b:7000 [fd00::1]:7", ""},
		{",b:7000", "invalid AddrPort", "b:7000", ""},
		{"[::]:7,b:1", "[::]:7", "b:1", ""},
		{"", "", "", "nobody can be met"},
		{":0", "", "", "nobody can be met"},
		{"7000", "", "", `listen on "7000"`},
		{"host:7000", "", "", `listen on "host:7000"`},
		{":70000", "", "", `listen on ":70000"`},
		{":1,b", "", "", `peer "b": want HOST:PORT`},
		{":1,b:0", "", "", `peer "b:0"`},
		{":1,:5", "", "", `peer ":5"`},
		{":1,", "", "", `peer ""`},
	} {
		listen, peers, err := ParseSpec(c.spec)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: %v", c.spec, err)
			}
			continue
		}
		if c.spec == ":7000" && listen.Port() != 7000 {
			t.Errorf("%q: port %d", c.spec, listen.Port())
		}
		if err != nil || listen.String() != c.listen || strings.Join(peers, " ") != c.peers {
			t.Errorf("%q: %v, %v, %v", c.spec, listen, peers, err)
		}
	}
}

func TestKeyFile(t *testing.T) {
	dir := t.TempDir()
	k := NewKey()
	if k == (Key{}) || k == NewKey() || strings.Contains(fmt.Sprintf("%v %+v %#v %s", k, k, k, k), fmt.Sprint(k[0])+" ") {
		t.Error("key")
	}
	for _, c := range []struct {
		name, text string
		mode       os.FileMode
		err        string
	}{
		{"good", k.Text() + "\n", 0o600, ""},
		{"read only", k.Text(), 0o400, ""},
		{"group", k.Text(), 0o640, "others have access"},
		{"world", k.Text(), 0o604, "others have access"},
		{"short", k.Text()[:20], 0o600, "32 bytes"},
		{"two", k.Text() + "\n" + k.Text(), 0o600, "32 bytes"},
		{"empty", "", 0o600, "32 bytes"},
		{"zeros", Key{}.Text(), 0o600, "all zeros"},
	} {
		path := filepath.Join(dir, c.name)
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, c.mode); err != nil {
			t.Fatal(err)
		}
		got, err := ReadKey(path)
		if c.err == "" && (err != nil || got != k) || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
			t.Errorf("%s: %v", c.name, err)
		}
		if err != nil && len(c.text) > 10 && strings.Contains(err.Error(), c.text[:10]) {
			t.Errorf("%s: the key is in the message", c.name)
		}
	}
	if _, err := ReadKey(dir); err == nil {
		t.Error("a directory is a key")
	}
	if _, err := ReadKey(filepath.Join(dir, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
}

package rootd_test

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/rootd"
	"github.com/alptrace/alptrace/rootd/proto"
	"github.com/alptrace/alptrace/rootd/rootdtest"
)

func TestRestart(t *testing.T) {
	d := rootdtest.Start(t, rootd.Config{HoldBack: time.Hour, Grace: 600 * time.Millisecond}, nil)
	held, _ := hello(t, d)
	heldPort := must(t, held, proto.Item{Proto: proto.TCP, Addr: any4})
	_ = held.Close()
	a, wa := hello(t, d)
	b, wb := hello(t, d)
	port := must(t, a, proto.Item{Proto: proto.TCP, Addr: any4})
	must(t, a, proto.Item{Proto: proto.TCP, Addr: local, Port: port})
	lost := must(t, b, proto.Item{Proto: proto.UDP, Addr: any6})
	eventually(t, time.Second, "the end of the first", func() bool { return len(d.Datapath.Leases()) == 2 })

	d.Stop(t)
	for _, c := range []*proto.Conn{a, b} {
		select {
		case <-c.Done():
			if err := c.Err(); !errors.Is(err, io.EOF) {
				t.Error(err)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("connection outlives the daemon")
		}
	}
	if d.Datapath.Len() != 4 {
		t.Fatalf("grants did not survive: %d", d.Datapath.Len())
	}
	d.Run(t, nil)
	for _, p := range []uint16{port, heldPort} {
		if err := kernelBinds(proto.TCP, netip.MustParseAddr("127.0.0.5"), p); !errors.Is(err, unix.EADDRINUSE) {
			t.Errorf("port %d: the kernel's: %v", p, err)
		}
	}

	wrong := wa.Token
	wrong[0]++
	for _, r := range []struct {
		lease uint32
		token [proto.TokenLen]byte
	}{{wa.Lease, wrong}, {wa.Lease + 1, wa.Token}, {wb.Lease, wa.Token}} {
		if _, err := dial(t, d).Resume(r.lease, r.token); !errors.Is(err, unix.EACCES) {
			t.Errorf("resume %+v: %v", r, err)
		}
	}
	c := dial(t, d)
	w, err := c.Resume(wa.Lease, wa.Token)
	if err != nil || w.Device != wa.Device || w.Index != wa.Index || w.Token != wa.Token || w.File != nil {
		t.Fatalf("%+v, %v", w, err)
	}
	if _, err := dial(t, d).Resume(wa.Lease, wa.Token); !errors.Is(err, unix.EACCES) {
		t.Errorf("resumed twice: %v", err)
	}
	must(t, c, proto.Item{Proto: proto.TCP, Addr: any4, Port: port})
	must(t, c, proto.Item{Proto: proto.UDP, Addr: any4})

	eventually(t, 3*time.Second, "the end of what is not resumed", func() bool { return len(d.Datapath.Leases()) == 1 })
	if err := kernelBinds(proto.UDP, any6, lost); err != nil {
		t.Error(err)
	}
	if _, err := dial(t, d).Resume(wb.Lease, wb.Token); !errors.Is(err, unix.EACCES) {
		t.Errorf("too late: %v", err)
	}
	if d.Datapath.Len() != 3 {
		t.Errorf("%d grants", d.Datapath.Len())
	}
	d.Stop(t)
	d.Run(t, nil)
	d.Stop(t)
	d.EndAll()
	if d.Datapath.Len() != 0 || len(d.Datapath.Leases()) != 0 || len(d.Guard.Grants()) != 0 {
		t.Errorf("left: %d grants, %v, %v", d.Datapath.Len(), d.Datapath.Leases(), d.Guard.Grants())
	}
	if _, err := os.Stat(d.Config.State); !errors.Is(err, os.ErrNotExist) {
		t.Error("state file left:", err)
	}
}

// A port that another program took while no daemon ran stays the lease's, and
// is reserved again when it can be.
func TestRestartPortTaken(t *testing.T) {
	d := rootdtest.Start(t, rootd.Config{}, nil)
	a, w := hello(t, d)
	port := must(t, a, proto.Item{Proto: proto.UDP, Addr: local})
	d.Stop(t)
	taken, err := net.ListenPacket("udp", netip.AddrPortFrom(local, port).String())
	if err != nil {
		t.Fatal(err)
	}
	d.Run(t, nil)
	if _, err := dial(t, d).Resume(w.Lease, w.Token); err != nil {
		t.Fatal(err)
	}
	naked := func() int { return d.Status(0).Leases[0].Naked }
	if naked() != 1 || d.Datapath.Len() != 1 {
		t.Errorf("naked %d, grants %d", naked(), d.Datapath.Len())
	}
	_ = taken.Close()
	eventually(t, 3*time.Second, "reserved again", func() bool {
		st := d.Status(0)
		return len(st.Leases) == 1 && st.Leases[0].Naked == 0
	})
}

// State that is junk, or another boot's, or lost: what the kernel has is ended.
func TestRestartWithoutState(t *testing.T) {
	for name, text := range map[string]string{
		"junk": "{", "none": "", "other boot": `{"version":1,"boot":"x","leases":[]}`,
		"bad record": `{"version":1,"boot":"BOOT","leases":[{"id":7,"token":"xx"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			d := rootdtest.Start(t, rootd.Config{}, nil)
			c, _ := hello(t, d)
			must(t, c, proto.Item{Proto: proto.UDP, Addr: local})
			d.Stop(t)
			if err := os.WriteFile(d.Config.State, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			d.Run(t, nil)
			if d.Datapath.Len() != 0 || len(d.Datapath.Leases()) != 0 || len(d.Guard.Grants()) != 0 {
				t.Errorf("left: %d grants, %v, %v", d.Datapath.Len(), d.Datapath.Leases(), d.Guard.Grants())
			}
			hello(t, d)
		})
	}
}

// What only the guard knows of, since the daemon was killed before it wrote its
// state, is held back and then let go.
func TestRestartUnknownPorts(t *testing.T) {
	d := rootdtest.Start(t, rootd.Config{HoldBack: 300 * time.Millisecond}, nil)
	c, _ := hello(t, d)
	tcp, udp := must(t, c, proto.Item{Proto: proto.TCP, Addr: local}), must(t, c, proto.Item{Proto: proto.UDP, Addr: local})
	_ = c.Close()
	eventually(t, time.Second, "the end", func() bool { return len(d.Datapath.Leases()) == 0 })
	d.Stop(t)
	gs := []rootd.Grant{{Proto: proto.TCP, Addr: local, Port: tcp}, {Proto: proto.UDP, Addr: local, Port: udp}}
	if err := errors.Join(d.Guard.Add(gs), os.Remove(d.Config.State), os.Remove(d.Config.State+".held")); err != nil {
		t.Fatal(err)
	}
	d.Run(t, nil)
	if err := kernelBinds(proto.TCP, local, tcp); !errors.Is(err, unix.EADDRINUSE) {
		t.Error(err)
	}
	if got := d.Guard.Grants(); len(got) != 1 || got[0] != gs[0] {
		t.Error(got)
	}
	eventually(t, 3*time.Second, "let go", func() bool { return len(d.Guard.Grants()) == 0 && d.Status(0).Grants == 0 })
}

// The policy of the new daemon holds for the leases of the old one.
func TestRestartNewPolicy(t *testing.T) {
	d := rootdtest.Start(t, rootd.Config{}, nil)
	c, w := hello(t, d)
	must(t, c, proto.Item{Proto: proto.UDP, Addr: local})
	keep := must(t, c, proto.Item{Proto: proto.TCP, Addr: local})
	d.Stop(t)
	d.Run(t, parse(t, "[default]\nbind=[{protocols=['tcp']}]"))
	if gs := d.Datapath.Grants(w.Lease); len(gs) != 1 || gs[0].Port != keep {
		t.Error(gs)
	}
	d.Stop(t)
	d.Run(t, parse(t, "[default]\ndeny=true"))
	if len(d.Datapath.Leases()) != 0 {
		t.Error("a lease of one who is denied")
	}
}

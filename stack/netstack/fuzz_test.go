package netstack

import (
	"testing"

	"github.com/alptrace/alptrace/link"
)

// FuzzICMPError parses packets as an enemy may send them.
func FuzzICMPError(f *testing.F) {
	f.Add(true, []byte{0x45, 0, 0, 56, 0, 0, 0, 0, 64, 1, 0, 0, 10, 0, 0, 2, 10, 0, 0, 1, 3, 3, 0, 0, 0, 0, 0, 0,
		0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 7, 0, 9, 0, 8, 0, 0})
	f.Add(false, append(append([]byte{0x60, 0, 0, 0, 0, 56, 58, 64}, make([]byte, 32)...), make([]byte, 56)...))
	f.Fuzz(func(t *testing.T, v4 bool, b []byte) {
		proto := ipv6Number
		if v4 {
			proto = ipv4Number
		}
		if len(b) > 0 {
			if ie, ok := parseICMPError(proto, b); ok && !ie.dst.IP.IsValid() {
				t.Error("an error about nobody")
			}
		}
	})
}

// FuzzControl parses ancillary data of a program.
func FuzzControl(f *testing.F) {
	f.Add(appendCmsgInt(nil, 0, 2, 64))
	f.Add([]byte{16, 0, 0, 0, 0, 0, 0, 0, 41, 0, 0, 0, 50, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		var c sendControl
		for _, family := range []uint16{2, 10} {
			d := &dgramSock{}
			d.family, d.kind = family, kindUDP
			_ = d.parseControl(b, &c)
		}
	})
}

// FuzzReceive gives an engine any packets at all.
func FuzzReceive(f *testing.F) {
	f.Add(true, []byte{0x45, 0, 0, 20})
	f.Add(false, []byte{2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45})
	f.Fuzz(func(t *testing.T, ethernet bool, b []byte) {
		medium := link.IP
		if ethernet {
			medium = link.Ethernet
		}
		l, _ := newPipe(medium, true)
		e := newEngine(t, l, "10.0.0.1/24", "fd00::1/64")
		e.nics[0].receive([]link.Packet{{Bufs: [][]byte{b}}})
		e.nics[0].receive([]link.Packet{{Bufs: [][]byte{b[:len(b)/2], b[len(b)/2:]}, Offload: link.Offload{NeedsCsum: true}}})
	})
}

// FuzzOption sets and gets any option to anything.
func FuzzOption(f *testing.F) {
	f.Add(1, 2, []byte{1, 0, 0, 0})
	f.Fuzz(func(t *testing.T, level, name int, val []byte) {
		e := newEngine(t, nil)
		for _, k := range socketKinds {
			ep, err := e.Socket(k.family, k.typ, k.proto)
			if err != 0 {
				t.Fatal(err)
			}
			_ = ep.SetOption(level, name, val)
			out := make([]byte, len(val))
			if n, _ := ep.GetOption(level, name, out); n > len(out) {
				t.Errorf("%d bytes in %d", n, len(out))
			}
			ep.Close()
		}
	})
}

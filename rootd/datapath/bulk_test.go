package datapath

import (
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/google/gopacket/layers"
)

// TestNSBulk sends and receives TCP in bulk in packets of up to 64 KiB, with no
// stack but the few lines here: all must arrive, and be cut nowhere before the
// wire. How fast it went is logged, not judged.
func TestNSBulk(t *testing.T) {
	d := open(t, testConfig)
	c := newClient(t, d, 1, Grant{6, host4, 7000})
	const total = 64 << 20
	var l net.Listener
	var err error
	in(t, "dppeer", func() { l, err = net.Listen("tcp4", "10.9.0.2:0") })
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var got int64
	var wg sync.WaitGroup
	wg.Go(func() {
		k, err := l.Accept()
		if err != nil {
			return
		}
		_ = k.SetDeadline(time.Now().Add(20 * time.Second))
		got, _ = io.Copy(io.Discard, io.LimitReader(k, total))
		_, _ = k.Write(make([]byte, total))
		_ = k.Close()
	})
	near, far := addrPort(host4, 7000), l.Addr().(*net.TCPAddr).AddrPort()
	wscale := []layers.TCPOption{{OptionType: layers.TCPOptionKindWindowScale, OptionLength: 3, OptionData: []byte{8}}, {OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{5, 0xb4}}}
	c.send(tcp(near, far, layers.TCP{SYN: true, Seq: 0, Window: 65535, Options: wscale}, ""))
	next := func() *layers.TCP {
		for {
			p := c.recv(5 * time.Second)
			if p == nil {
				t.Fatalf("nothing received: %+v", c.counters())
			}
			if tl, ok := p.Layer(layers.LayerTypeTCP).(*layers.TCP); ok {
				return tl
			}
		}
	}
	syn := next()
	if !syn.SYN || !syn.ACK {
		t.Fatalf("received %+v", syn)
	}
	seq, ack := uint32(1), syn.Seq+1
	shift := 0
	for _, o := range syn.Options {
		if o.OptionType == layers.TCPOptionKindWindowScale {
			shift = int(o.OptionData[0])
		}
	}
	end := 1 + uint32(syn.Window) // of the peer's window
	send := func(data []byte) {
		pkt := tcp(near, far, layers.TCP{ACK: true, PSH: true, Seq: seq, Ack: ack, Window: 65535}, string(data))
		o := offload{csum: 20, csumOff: 16, hdr: 40}
		if len(data) > 1460 {
			o.gso, o.size = 1, 1460
		}
		pseudo(pkt)
		if err := c.write(o, pkt); err != nil {
			t.Fatal(err)
		}
		seq += uint32(len(data))
	}
	send(nil)
	chunk := make([]byte, 43*1460)
	start := time.Now()
	for acked := uint32(1); acked != 1+total; {
		for seq-1 < total {
			n := uint32(min(len(chunk), int(total-(seq-1)), int(end-seq)))
			if n == 0 || seq-acked > 3*uint32(len(chunk)) {
				break
			}
			send(chunk[:n])
		}
		if a := next(); a.Ack-acked < 1<<31 {
			acked, end = a.Ack, a.Ack+uint32(a.Window)<<shift
		}
	}
	out := time.Since(start)
	start = time.Now()
	biggest, received := 0, 0
	early := map[uint32]int{} // the peer's processors may overtake each other
	for received < total {
		s := next()
		early[s.Seq] = len(s.Payload)
		for n := early[ack]; n > 0; n = early[ack] {
			delete(early, ack)
			received, biggest, ack = received+n, max(biggest, n), ack+uint32(n)
		}
		send(nil)
	}
	back := time.Since(start)
	wg.Wait()
	n := c.counters()
	t.Logf("out %.1f, in %.1f Gbit/s; the biggest packet received has %d bytes", total*8/out.Seconds()/1e9, total*8/back.Seconds()/1e9, biggest)
	if got != total || len(n.Drops) > 0 || biggest < 3*1460 {
		t.Errorf("%d of %d bytes arrived, packets of up to %d came back, %+v", got, total, biggest, n)
	}
}

// pseudo replaces the TCP checksum of an IPv4 packet by that of the pseudo
// header, as offload wants it.
func pseudo(pkt []byte) {
	h := append(append([]byte{}, pkt[12:20]...), 0, 6, byte((len(pkt)-20)>>8), byte(len(pkt)-20))
	s := ^checksum(h)
	pkt[36], pkt[37] = byte(s>>8), byte(s)
}

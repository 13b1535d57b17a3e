package netstack

import (
	"encoding/binary"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"gvisor.dev/gvisor/pkg/tcpip/header"

	"github.com/alptrace/alptrace/link"
)

// lastTCP is the last TCP segment that was sent to a port over IPv6 with the
// flags, nil if there is none.
func (l *hairpin) lastTCP(port uint16, flags header.TCPFlags) header.TCP {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := len(l.sent) - 1; i >= 0; i-- {
		b := l.sent[i]
		if b[0]>>4 != 6 || b[6] != unix.IPPROTO_TCP {
			continue
		}
		if seg := header.TCP(b[40:]); seg.DestinationPort() == port && seg.Flags()&flags == flags {
			return seg
		}
	}
	return nil
}

// syn6 is a SYN from fd00::2 to fd00::1, without a checksum.
func syn6(from, to uint16, seq uint32) []byte {
	b := make([]byte, 60)
	b[0], b[5], b[6], b[7] = 0x60, 20, unix.IPPROTO_TCP, 64
	b[8], b[9], b[23] = 0xfd, 0, 2
	b[24], b[25], b[39] = 0xfd, 0, 1
	binary.BigEndian.PutUint16(b[40:], from)
	binary.BigEndian.PutUint16(b[42:], to)
	binary.BigEndian.PutUint32(b[44:], seq)
	b[52], b[53] = 5<<4, byte(header.TCPFlagSyn)
	binary.BigEndian.PutUint16(b[54:], 4096)
	return b
}

// TestTimeWaitReopen: a peer that begins anew from a port whose connection is
// in TIME_WAIT is let, whatever its sequence number, at the first SYN or at the
// one that it sends a second later.
func TestTimeWaitReopen(t *testing.T) {
	for name, ahead := range map[string]uint32{"above": 1000, "below": ^uint32(1 << 20), "far below": ^uint32(1 << 30)} {
		t.Run(name, func(t *testing.T) {
			e, _, hp, peer := newShared(t)
			l := listen(t, e, unix.AF_INET6, addr("[::]:7000"), 16)
			client := socket(t, peer, unix.AF_INET6, unix.SOCK_STREAM, 0)
			must(t, "connect", client.dial(addr("[fd00::1]:7000")), 0)
			port := client.LocalAddr().Port
			server := l.accept()
			server.Close()
			client.readFull(1)
			client.Close()
			r := reopener{st: e.st, nic: firstLinkNIC}
			id, ok := synID(syn6(port, 7000, 0))
			if !ok {
				t.Fatal("a SYN is not taken for one")
			}
			for end := time.Now().Add(5 * time.Second); r.waiting(ipv6Number, id) == nil; time.Sleep(time.Millisecond) {
				if time.Now().After(end) {
					t.Fatal("no connection in TIME_WAIT")
				}
			}
			seq := hp.lastTCP(port, header.TCPFlagAck).AckNumber() + ahead
			for try := 0; ; try++ {
				p := link.Packet{Bufs: [][]byte{syn6(port, 7000, seq)}}
				p.CsumValid = true
				hp.queue <- p.Bufs
				hp.meta <- p.Offload
				time.Sleep(reopenAfter + 100*time.Millisecond)
				if a := hp.lastTCP(port, header.TCPFlagSyn|header.TCPFlagAck); a != nil && a.AckNumber() == seq+1 {
					return
				}
				if try == 1 {
					t.Fatal("the second SYN is not accepted")
				}
			}
		})
	}
}

// TestSynID: only a whole SYN is one.
func TestSynID(t *testing.T) {
	syn := syn6(1, 2, 3)
	id, ok := synID(syn)
	if !ok || id.RemotePort != 1 || id.LocalPort != 2 || id.RemoteAddress.String() != "fd00::2" || id.LocalAddress.String() != "fd00::1" {
		t.Errorf("%v %v", id, ok)
	}
	change := func(at int, to byte) []byte {
		b := append([]byte{}, syn...)
		b[at] = to
		return b
	}
	v4 := make([]byte, 40)
	v4[0], v4[9], v4[33] = 0x45, unix.IPPROTO_TCP, byte(header.TCPFlagSyn)
	if _, ok := synID(v4); !ok {
		t.Error("a SYN over IPv4 is not taken for one")
	}
	fragment := append([]byte{}, v4...)
	fragment[7] = 1
	for name, b := range map[string][]byte{
		"SYN and ACK": change(53, byte(header.TCPFlagSyn|header.TCPFlagAck)), "ACK": change(53, byte(header.TCPFlagAck)),
		"UDP": change(6, unix.IPPROTO_UDP), "short": syn[:59], "shorter": syn[:39], "empty": nil,
		"IPv4, fragment": fragment, "IPv4, long header": append([]byte{0x4f}, v4[1:]...), "IPv4, short header": append([]byte{0x44}, v4[1:]...),
	} {
		if id, ok := synID(b); ok {
			t.Errorf("%s: %v", name, id)
		}
	}
}

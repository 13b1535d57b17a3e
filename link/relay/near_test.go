package relay

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"gvisor.dev/gvisor/pkg/buffer"
	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/adapters/gonet"
	"gvisor.dev/gvisor/pkg/tcpip/header"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv4"
	"gvisor.dev/gvisor/pkg/tcpip/network/ipv6"
	"gvisor.dev/gvisor/pkg/tcpip/stack"
	"gvisor.dev/gvisor/pkg/tcpip/transport/icmp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
	"gvisor.dev/gvisor/pkg/tcpip/transport/udp"
	"gvisor.dev/gvisor/pkg/waiter"

	"github.com/alptrace/alptrace/link"
)

// near is a stack on the near side of a relay, for tests.
type near struct {
	*stack.Stack
	r    *Relay
	disp stack.NetworkDispatcher
	mu   sync.RWMutex

	// tap sees every packet from the relay before the stack does.
	tap func(b []byte)
}

// newNear makes a relay and a stack over it; both end with the test.
func newNear(tb testing.TB, cfg Config) *near {
	tb.Helper()
	return newNearTap(tb, cfg, nil)
}

func newNearTap(tb testing.TB, cfg Config, tap func([]byte)) *near {
	tb.Helper()
	r, err := New(cfg)
	if err != nil {
		tb.Fatal(err)
	}
	s := stack.New(stack.Options{
		NetworkProtocols: []stack.NetworkProtocolFactory{
			ipv4.NewProtocol,
			ipv6.NewProtocolWithOptions(ipv6.Options{
				NDPConfigs: ipv6.NDPConfigurations{HandleRAs: ipv6.HandlingRAsDisabled},
			}),
		},
		TransportProtocols: []stack.TransportProtocolFactory{
			tcp.NewProtocolCUBIC, udp.NewProtocol, icmp.NewProtocol4, icmp.NewProtocol6,
		},
	})
	n := &near{Stack: s, r: r, tap: tap}
	rcv := tcpip.TCPReceiveBufferSizeRangeOption{Min: 4096, Default: 1 << 20, Max: 4 << 20}
	snd := tcpip.TCPSendBufferSizeRangeOption{Min: 4096, Default: 1 << 20, Max: 4 << 20}
	sack := tcpip.TCPSACKEnabled(true)
	for _, o := range []tcpip.SettableTransportProtocolOption{&rcv, &snd, &sack} {
		if err := s.SetTransportProtocolOption(tcp.ProtocolNumber, o); err != nil {
			tb.Fatal(err)
		}
	}
	if err := s.CreateNIC(1, n); err != nil {
		tb.Fatal(err)
	}
	for _, p := range r.Addrs() {
		pa := tcpip.ProtocolAddress{Protocol: protoOf(p.Addr()), AddressWithPrefix: tcpip.AddressWithPrefix{
			Address: tcpipAddr(p.Addr()), PrefixLen: p.Bits()}}
		if err := s.AddProtocolAddress(1, pa, stack.AddressProperties{}); err != nil {
			tb.Fatal(err)
		}
	}
	s.SetRouteTable([]tcpip.Route{
		{Destination: header.IPv4EmptySubnet, NIC: 1},
		{Destination: header.IPv6EmptySubnet, NIC: 1},
	})
	if err := r.Start(n.recv); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		s.Close()
		if err := r.Close(); err != nil {
			tb.Error(err)
		}
	})
	return n
}

func (n *near) recv(pkts []link.Packet) {
	for i := range pkts {
		v := buffer.NewViewSize(pkts[i].Len())
		off := 0
		for _, b := range pkts[i].Bufs {
			off += copy(v.AsSlice()[off:], b)
		}
		if n.tap != nil {
			n.tap(v.AsSlice())
		}
		proto := ipv4.ProtocolNumber
		if v.AsSlice()[0]>>4 == 6 {
			proto = ipv6.ProtocolNumber
		}
		pkt := stack.NewPacketBuffer(stack.PacketBufferOptions{Payload: buffer.MakeWithView(v)})
		n.mu.RLock()
		d := n.disp
		n.mu.RUnlock()
		if d != nil {
			d.DeliverNetworkPacket(proto, pkt)
		}
		pkt.DecRef()
	}
}

func (n *near) WritePackets(list stack.PacketBufferList) (int, tcpip.Error) {
	var pkts []link.Packet
	for _, p := range list.AsSlice() {
		partialSum(p)
		pkts = append(pkts, link.Packet{Bufs: p.AsSlices(), Offload: offloadOf(p)})
	}
	k, err := n.r.Send(pkts)
	if err != nil {
		return k, &tcpip.ErrClosedForSend{}
	}
	return k, nil
}

func (n *near) MTU() uint32                                  { return uint32(n.r.MTU()) }
func (n *near) SetMTU(uint32)                                {}
func (n *near) MaxHeaderLength() uint16                      { return 0 }
func (n *near) LinkAddress() tcpip.LinkAddress               { return "" }
func (n *near) SetLinkAddress(tcpip.LinkAddress)             {}
func (n *near) Wait()                                        {}
func (n *near) ARPHardwareType() header.ARPHardwareType      { return header.ARPHardwareNone }
func (n *near) AddHeader(*stack.PacketBuffer)                {}
func (n *near) ParseHeader(*stack.PacketBuffer) bool         { return true }
func (n *near) Close()                                       {}
func (n *near) SetOnCloseAction(func())                      {}
func (n *near) GSOMaxSize() uint32                           { return uint32(n.r.Features().GSOMax) }
func (n *near) SupportedGSO() stack.SupportedGSO             { return stack.HostGSOSupported }
func (n *near) IsAttached() bool                             { return n.disp != nil }
func (n *near) Capabilities() stack.LinkEndpointCapabilities { return n.r.farEP.Capabilities() }
func (n *near) Attach(d stack.NetworkDispatcher) {
	n.mu.Lock()
	n.disp = d
	n.mu.Unlock()
}

func full(a netip.AddrPort) tcpip.FullAddress {
	return tcpip.FullAddress{NIC: 1, Addr: tcpipAddr(a.Addr()), Port: a.Port()}
}

// conn is a TCP connection of the near stack, with its endpoint in reach.
type conn struct {
	*gonet.TCPConn
	ep tcpip.Endpoint
	wq *waiter.Queue
}

// connect is connect(2): its error is the stack's own.
func (n *near) connect(to netip.AddrPort, timeout time.Duration) (*conn, tcpip.Error) {
	wq := new(waiter.Queue)
	ep, err := n.NewEndpoint(tcp.ProtocolNumber, protoOf(to.Addr()), wq)
	if err != nil {
		return nil, err
	}
	e, ch := waiter.NewChannelEntry(waiter.WritableEvents | waiter.EventErr | waiter.EventHUp)
	wq.EventRegister(&e)
	defer wq.EventUnregister(&e)
	err = ep.Connect(full(to))
	if _, ok := err.(*tcpip.ErrConnectStarted); ok {
		select {
		case <-ch:
			err = ep.LastError()
		case <-time.After(timeout):
			err = &tcpip.ErrTimeout{}
		}
	}
	if err != nil {
		ep.Close()
		return nil, err
	}
	return &conn{gonet.NewTCPConn(wq, ep), ep, wq}, nil
}

func (n *near) dial(tb testing.TB, to netip.AddrPort) *conn {
	tb.Helper()
	c, err := n.connect(to, 10*time.Second)
	if err != nil {
		tb.Fatalf("connect to %v: %v", to, err)
	}
	tb.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(60 * time.Second))
	return c
}

func (n *near) dialUDP(tb testing.TB, to netip.AddrPort) *gonet.UDPConn {
	tb.Helper()
	f := full(to)
	c, err := gonet.DialUDP(n.Stack, nil, &f, protoOf(to.Addr()))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	return c
}

// host is a TCP server of the host on its loopback; serve gets every connection.
func host(tb testing.TB, addr string, serve func(c *net.TCPConn)) netip.AddrPort {
	tb.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_ = c.SetDeadline(time.Now().Add(60 * time.Second))
				serve(c.(*net.TCPConn))
			}()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// via is where the near stack finds the host's loopback address a.
func (n *near) via(a netip.AddrPort) netip.AddrPort {
	gw := n.r.cfg.Gateway4
	if a.Addr().Is6() {
		gw = n.r.cfg.Gateway6
	}
	return netip.AddrPortFrom(gw, a.Port())
}

// unused is a loopback port on which nobody listens.
func unused(tb testing.TB, network string) netip.AddrPort {
	tb.Helper()
	if network == "udp" {
		c, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			tb.Fatal(err)
		}
		defer c.Close()
		return c.LocalAddr().(*net.UDPAddr).AddrPort()
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func echo(c *net.TCPConn) {
	_, _ = io.Copy(c, c)
	_ = c.Close()
}

// eventually waits until ok, at most 10 s.
func eventually(tb testing.TB, what string, ok func() bool) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for !ok() {
		select {
		case <-ctx.Done():
			tb.Fatalf("not in time: %s", what)
		case <-time.After(2 * time.Millisecond):
		}
	}
}

// icmpLog notes the ICMP messages that a near stack gets, as "type/code source".
type icmpLog struct {
	mu   sync.Mutex
	seen map[string]int
}

func newICMPLog() *icmpLog { return &icmpLog{seen: make(map[string]int)} }

func (l *icmpLog) tap(b []byte) {
	var src netip.Addr
	var body []byte
	switch {
	case b[0]>>4 == 4 && b[9] == 1:
		src, body = netip.AddrFrom4([4]byte(b[12:16])), b[20:]
	case b[0]>>4 == 6 && b[6] == 58:
		src, body = netip.AddrFrom16([16]byte(b[8:24])), b[40:]
	default:
		return
	}
	l.mu.Lock()
	l.seen[fmt.Sprintf("%d/%d %v", body[0], body[1], src)]++
	l.mu.Unlock()
}

// want checks that a message was or was not seen, waiting for it if need be.
func (l *icmpLog) want(tb testing.TB, msg string, want bool) {
	tb.Helper()
	for range 300 {
		l.mu.Lock()
		n := l.seen[msg]
		l.mu.Unlock()
		if n > 0 == want {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	tb.Errorf("icmp %s seen is %v, want %v; all: %v", msg, !want, want, l.seen)
}

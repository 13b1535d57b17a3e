// Command pcapshow prints the packets of a pcapng capture, one a line, and what
// they add up to.
//
//	pcapshow [-n LINES] [-from ADDR] FILE
//
// With -from it exits with 1 unless the capture holds a packet from that
// address.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

func main() {
	n := flag.Int("n", 10, "packets to print; the rest are counted")
	from := flag.String("from", "", "fail unless a packet is from this address")
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := run(flag.Arg(0), *n, *from, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "pcapshow:", err)
		os.Exit(1)
	}
}

func run(name string, n int, from string, w io.Writer) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := pcapgo.NewNgReader(f, pcapgo.NgReaderOptions{WantMixedLinkType: true})
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	var start time.Time
	count, ours := 0, 0
	for {
		data, ci, err := r.ReadPacketData()
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("%s: packet %d: %w", name, count+1, err)
		}
		if count == 0 {
			start = ci.Timestamp
		}
		src, text := describe(data, linkType(ci))
		if from != "" && src == from {
			ours++
		}
		if count < n {
			fmt.Fprintf(w, "%9.6f  %s\n", ci.Timestamp.Sub(start).Seconds(), text)
		}
		count++
	}
	if count > n {
		fmt.Fprintf(w, "           and %d more\n", count-n)
	}
	if from != "" {
		if ours == 0 {
			return fmt.Errorf("%s: none of %d packets is from %s", name, count, from)
		}
		fmt.Fprintf(w, "%d packets, %d of them from %s\n", count, ours, from)
	}
	return nil
}

// linkType is that of the packet's interface, which the reader gives besides
// the packet. DLT_RAW and LINKTYPE_IPV4/IPV6 all begin with an IP header.
func linkType(ci gopacket.CaptureInfo) layers.LinkType {
	if len(ci.AncillaryData) > 0 {
		if t, ok := ci.AncillaryData[0].(layers.LinkType); ok {
			return t
		}
	}
	return layers.LinkTypeRaw
}

// describe returns a packet's source address and a line about it.
func describe(data []byte, link layers.LinkType) (src, text string) {
	first := layers.LayerTypeIPv4
	switch {
	case link == layers.LinkTypeEthernet:
		first = layers.LayerTypeEthernet
	case len(data) > 0 && data[0]>>4 == 6:
		first = layers.LayerTypeIPv6
	}
	p := gopacket.NewPacket(data, first, gopacket.DecodeOptions{Lazy: true, NoCopy: true})
	var from, to netip.Addr
	switch ip := p.NetworkLayer().(type) {
	case *layers.IPv4:
		from, _ = netip.AddrFromSlice(ip.SrcIP)
		to, _ = netip.AddrFromSlice(ip.DstIP)
	case *layers.IPv6:
		from, _ = netip.AddrFromSlice(ip.SrcIP)
		to, _ = netip.AddrFromSlice(ip.DstIP)
	default:
		return "", fmt.Sprintf("%d bytes that are not IP", len(data))
	}
	switch t := p.TransportLayer().(type) {
	case *layers.TCP:
		return from.String(), fmt.Sprintf("%s > %s TCP %s%s", netip.AddrPortFrom(from, uint16(t.SrcPort)),
			netip.AddrPortFrom(to, uint16(t.DstPort)), flags(t), payload(t.Payload))
	case *layers.UDP:
		return from.String(), fmt.Sprintf("%s > %s UDP%s", netip.AddrPortFrom(from, uint16(t.SrcPort)),
			netip.AddrPortFrom(to, uint16(t.DstPort)), payload(t.Payload))
	default:
		return from.String(), fmt.Sprintf("%s > %s %d bytes", from, to, len(data))
	}
}

func flags(t *layers.TCP) string {
	var set []string
	for _, f := range []struct {
		name string
		on   bool
	}{{"SYN", t.SYN}, {"FIN", t.FIN}, {"RST", t.RST}, {"PSH", t.PSH}, {"ACK", t.ACK}} {
		if f.on {
			set = append(set, f.name)
		}
	}
	return strings.Join(set, ",")
}

// payload shows the length of a payload and its first line if it is text.
func payload(b []byte) string {
	if len(b) == 0 {
		return ""
	}
	line, _, _ := strings.Cut(string(b), "\r\n")
	for _, c := range line {
		if c < ' ' || c > '~' {
			return fmt.Sprintf(", %d bytes", len(b))
		}
	}
	if len(line) > 40 {
		line = line[:37] + "..."
	}
	return fmt.Sprintf(", %d bytes: %s", len(b), line)
}

package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/gopacket"
	"github.com/google/gopacket/layers"
	"github.com/google/gopacket/pcapgo"
)

// segment is a TCP segment from 10.0.2.15 with a payload.
func segment(t *testing.T, payload string) []byte {
	t.Helper()
	ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP,
		SrcIP: net.IPv4(10, 0, 2, 15), DstIP: net.IPv4(10, 0, 2, 2)}
	tcp := &layers.TCP{SrcPort: 40000, DstPort: 80, SYN: payload == "", ACK: payload != "", PSH: payload != ""}
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	b := gopacket.NewSerializeBuffer()
	opts := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(b, opts, ip, tcp, gopacket.Payload(payload)); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func capture(t *testing.T, packets ...[]byte) string {
	t.Helper()
	name := filepath.Join(t.TempDir(), "x.pcapng")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	w, err := pcapgo.NewNgWriter(f, layers.LinkTypeRaw)
	if err != nil {
		t.Fatal(err)
	}
	for i, p := range packets {
		ci := gopacket.CaptureInfo{Timestamp: time.Unix(1, int64(i)*1000), CaptureLength: len(p), Length: len(p)}
		if err := w.WritePacket(ci, p); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return name
}

func TestRun(t *testing.T) {
	name := capture(t, segment(t, ""), segment(t, "GET / HTTP/1.1\r\nHost: x\r\n"), segment(t, "\x00\x01"))
	var out strings.Builder
	if err := run(name, 2, "10.0.2.15", &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		" 0.000000  10.0.2.15:40000 > 10.0.2.2:80 TCP SYN\n",
		" 0.000001  10.0.2.15:40000 > 10.0.2.2:80 TCP PSH,ACK, 25 bytes: GET / HTTP/1.1\n",
		"and 1 more\n", "3 packets, 3 of them from 10.0.2.15\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in:\n%s", want, &out)
		}
	}
	if err := run(name, 0, "10.0.2.99", &out); err == nil {
		t.Error("no error though no packet is from 10.0.2.99")
	}
}

func TestNotIP(t *testing.T) {
	for _, data := range [][]byte{nil, {0x45}, {0x60, 0}, {0xff}} {
		if _, text := describe(data, layers.LinkTypeRaw); text == "" {
			t.Errorf("%x: nothing said", data)
		}
	}
}

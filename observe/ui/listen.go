package ui

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// ParseAddr reads where to listen: PORT, :PORT, 127.0.0.1:PORT, [::1]:PORT or
// localhost:PORT. Without an address it is 127.0.0.1; port 0 is any that is
// free. Other addresses are refused: the page is for this machine's user.
func ParseAddr(s string) (netip.AddrPort, error) {
	const want = "want PORT, 127.0.0.1:PORT or [::1]:PORT; port 0 is any"
	host, port := "127.0.0.1", s
	if strings.Contains(s, ":") {
		h, p, err := net.SplitHostPort(s)
		if err != nil {
			return netip.AddrPort{}, fmt.Errorf("%q: %s", s, want)
		}
		port = p
		if h != "" && h != "localhost" {
			host = h
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q: %s", s, want)
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("%q: %s", s, want)
	}
	if !ip.IsLoopback() {
		return netip.AddrPort{}, fmt.Errorf("%q: only loopback is listened on (%s)", s, want)
	}
	return netip.AddrPortFrom(ip.Unmap(), uint16(n)), nil
}

// newToken is 128 random bits in hexadecimal.
func newToken() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}

// loopbackHost tells whether the Host of a request is one of loopback, whatever
// the port: it may have been forwarded (ssh -L).
func loopbackHost(hostport string) bool {
	host, _, err := net.SplitHostPort(hostport)
	if err != nil {
		host = strings.Trim(hostport, "[]")
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// listen opens the listener.
func listen(addr netip.AddrPort) (net.Listener, error) {
	if !addr.Addr().IsLoopback() {
		return nil, errors.New("only loopback is listened on")
	}
	return net.Listen("tcp", addr.String())
}

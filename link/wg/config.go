package wg

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Key is a Curve25519 key, or a preshared one.
type Key [32]byte

// Peer is a [Peer] section.
type Peer struct {
	PublicKey    Key
	PresharedKey Key // zero: none
	AllowedIPs   []netip.Prefix
	Endpoint     string // HOST:PORT, "" if not known
	Keepalive    int    // seconds between signs of life; 0: none
	Line         int    // where the section begins
	endpointLine int
}

// Config is a wg-quick(8) file.
type Config struct {
	Name       string // of the interface: the file's, without ".conf"
	PrivateKey Key
	ListenPort int            // 0: any
	Addrs      []netip.Prefix // Address
	DNS        []netip.Addr
	Search     []string // names among DNS
	MTU        int      // bytes; 0: not given
	Peers      []Peer
	// Warnings say what of the file has no effect here.
	Warnings []string

	file string
}

// worldWarning is said of a file that everybody can read.
const worldWarning = "is world accessible, and has a private key"

// FindConfig is the path of a configuration, as wg-quick(8) finds it: what is a
// mere name and no file stands for /etc/wireguard/NAME.conf.
func FindConfig(name string) string {
	if _, err := os.Stat(name); err != nil && mereName.MatchString(name) {
		return "/etc/wireguard/" + name + ".conf"
	}
	return name
}

var mereName = regexp.MustCompile(`^[a-zA-Z0-9_=+.-]{1,15}$`)

// ReadConfig reads a wg-quick file. Errors are those of [ParseConfig], and of
// reading.
func ReadConfig(path string) (*Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c, err := ParseConfig(path, text)
	if err != nil {
		return nil, err
	}
	if worldAccessible(path) {
		c.Warnings = append([]string{path + " " + worldWarning}, c.Warnings...)
	}
	return c, nil
}

// worldAccessible says whether others can read or change the file, as wg-quick
// asks: by its mode and its directory's.
func worldAccessible(path string) bool {
	var file, dir unix.Stat_t
	return unix.Stat(path, &file) == nil && unix.Stat(filepath.Dir(path), &dir) == nil && file.Mode&dir.Mode&0o007 != 0
}

// parser reads a file; it goes on after an error, to find them all.
type parser struct {
	c       *Config
	line    int
	section string
	seen    map[string]int // keys of this section, and their lines
	iface   int            // the line of [Interface]
	errs    []error
}

func (p *parser) fail(line int, format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf("%s:%d: %w", p.c.file, line, fmt.Errorf(format, args...)))
}

func (p *parser) warn(format string, args ...any) {
	p.c.Warnings = append(p.c.Warnings, fmt.Sprintf("%s:%d: ", p.c.file, p.line)+fmt.Sprintf(format, args...))
}

// ParseConfig reads the text of a wg-quick file (wg-quick(8), wg(8)
// "CONFIGURATION FILE FORMAT"). What only root could do (FwMark, Table, PreUp...)
// is a warning. Its errors, all of them joined, name the file and the line, and
// never show a key.
func ParseConfig(file string, text []byte) (*Config, error) {
	c := &Config{file: file, Name: strings.TrimSuffix(filepath.Base(file), ".conf")}
	p := &parser{c: c}
	for line := range bytes.Lines(text) {
		p.line++
		s, _, _ := strings.Cut(string(line), "#")
		if s = strings.TrimSpace(s); s == "" {
			continue
		}
		if s[0] == '[' {
			p.begin(s)
			continue
		}
		key, value, ok := strings.Cut(s, "=")
		if !ok {
			p.fail(p.line, "want KEY = VALUE or a [section]")
			continue
		}
		p.set(strings.TrimSpace(key), strings.TrimSpace(value))
	}
	p.end()
	if p.iface == 0 {
		p.fail(max(p.line, 1), "no [Interface] section")
	} else if c.PrivateKey == (Key{}) {
		p.fail(p.iface, "[Interface] has no PrivateKey")
	} else if len(c.Addrs) == 0 {
		p.fail(p.iface, "[Interface] has no Address")
	}
	p.sharedIPs()
	if len(p.errs) > 0 {
		return nil, errors.Join(p.errs...)
	}
	return c, nil
}

// begin begins a section.
func (p *parser) begin(s string) {
	p.end()
	p.seen = map[string]int{}
	switch p.section = strings.ToLower(s); p.section {
	case "[interface]":
		if p.iface != 0 {
			p.fail(p.line, "a second [Interface], the first is at line %d", p.iface)
		}
		p.iface = p.line
	case "[peer]":
		p.c.Peers = append(p.c.Peers, Peer{Line: p.line})
	default:
		p.fail(p.line, "section %s: want [Interface] or [Peer]", s)
		p.section = ""
	}
}

// end ends a section.
func (p *parser) end() {
	if p.section != "[peer]" {
		return
	}
	peer := &p.c.Peers[len(p.c.Peers)-1]
	if p.seen["publickey"] == 0 {
		p.fail(peer.Line, "[Peer] has no PublicKey")
	}
	for _, q := range p.c.Peers[:len(p.c.Peers)-1] {
		if q.PublicKey == peer.PublicKey && peer.PublicKey != (Key{}) {
			p.fail(peer.Line, "the peer of line %d again: its PublicKey is the same", q.Line)
		}
	}
}

// repeatable are the keys that may be given again.
var repeatable = []string{"address", "dns", "allowedips", "preup", "postup", "predown", "postdown"}

func (p *parser) set(key, value string) {
	low := strings.ToLower(key)
	if p.section == "" {
		if p.seen == nil { // otherwise the section is already wrong
			p.fail(p.line, "%s before any [section]", key)
		}
		return
	}
	if first := p.seen[low]; first != 0 && !slices.Contains(repeatable, low) {
		p.fail(p.line, "%s again, the first is at line %d", key, first)
	}
	p.seen[low] = p.line
	var known bool
	var err error
	if p.section == "[interface]" {
		known, err = p.setInterface(low, key, value)
	} else {
		known, err = p.setPeer(low, value)
	}
	switch {
	case !known:
		p.fail(p.line, "%s is no key of %s", key, p.section)
	case err != nil:
		p.fail(p.line, "%s: %w", key, err)
	}
}

func (p *parser) setInterface(low, key, value string) (known bool, err error) {
	c := p.c
	switch low {
	case "privatekey":
		c.PrivateKey, err = parseKey(value)
		if err == nil && c.PrivateKey == (Key{}) {
			err = errors.New("the key is all zeros")
		}
	case "listenport":
		c.ListenPort, err = number(value, 0, 65535)
	case "address":
		err = each(value, func(s string) error {
			a, err := parsePrefix(s)
			c.Addrs = append(c.Addrs, a)
			return err
		})
	case "dns":
		err = each(value, func(s string) error {
			if a, err := netip.ParseAddr(s); err == nil {
				c.DNS = append(c.DNS, a.Unmap())
			} else {
				c.Search = append(c.Search, s)
				p.warn("DNS: the search domain %s has no effect (the program's resolver takes LOCALDOMAIN=%s from the environment)", s, s)
			}
			return nil
		})
	case "mtu":
		c.MTU, err = number(value, 68, maxMTU)
	case "fwmark":
		if value != "off" && value != "0" {
			p.warn("FwMark has no effect: it needs root")
		}
	case "table":
		if value != "auto" {
			p.warn("Table has no effect: the program's routes are its own, by AllowedIPs")
		}
	case "preup", "postup", "predown", "postdown":
		p.warn("%s is not run: the network is the program's own, not the machine's", key)
	case "saveconfig":
		if value != "false" {
			p.warn("SaveConfig has no effect: the file stays as it is")
		}
	default:
		return false, nil
	}
	return true, err
}

func (p *parser) setPeer(low, value string) (known bool, err error) {
	peer := &p.c.Peers[len(p.c.Peers)-1]
	switch low {
	case "publickey":
		peer.PublicKey, err = parseKey(value)
	case "presharedkey":
		peer.PresharedKey, err = parseKey(value)
	case "allowedips":
		err = each(value, func(s string) error {
			a, err := parsePrefix(s)
			peer.AllowedIPs = append(peer.AllowedIPs, a.Masked())
			return err
		})
	case "endpoint":
		host, port, e := net.SplitHostPort(value)
		n, pe := strconv.ParseUint(port, 10, 16)
		if e != nil || pe != nil || host == "" || n == 0 {
			return true, fmt.Errorf("%q: want HOST:PORT", value)
		}
		peer.Endpoint, peer.endpointLine = value, p.line
	case "persistentkeepalive":
		if value != "off" {
			peer.Keepalive, err = number(value, 0, 65535)
		}
	default:
		return false, nil
	}
	return true, err
}

// sharedIPs warns of addresses that are allowed to two peers: the last has them.
func (p *parser) sharedIPs() {
	first := map[netip.Prefix]int{}
	for _, peer := range p.c.Peers {
		for _, a := range peer.AllowedIPs {
			if line, ok := first[a]; ok && line != peer.Line {
				p.line = peer.Line
				p.warn("AllowedIPs: %s is taken away from the peer of line %d", a, line)
			}
			first[a] = peer.Line
		}
	}
}

// each calls f with the words of a list.
func each(list string, f func(s string) error) error {
	for s := range strings.SplitSeq(list, ",") {
		if s = strings.TrimSpace(s); s == "" {
			continue
		}
		if err := f(s); err != nil {
			return err
		}
	}
	return nil
}

// parseKey reads a key; the error does not show it.
func parseKey(s string) (Key, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != len(Key{}) {
		return Key{}, errors.New("want a key: 44 characters of base64")
	}
	return Key(b), nil
}

// parsePrefix reads an address with or without a prefix length.
func parsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return p, fmt.Errorf("%q: want an address, as 10.0.0.2/32 or fd00::2/128", s)
	}
	return p, nil
}

func number(s string, low, high int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < low || n > high {
		return 0, fmt.Errorf("%q: want a number from %d to %d", s, low, high)
	}
	return n, nil
}

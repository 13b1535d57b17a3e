package relay

import (
	"bufio"
	"bytes"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"time"
)

const dnsPort = 53

// parseResolvConf returns the name servers of a resolv.conf(5), in order. Lines
// that it does not understand mean nothing, as they mean nothing to a resolver.
func parseResolvConf(b []byte) []netip.AddrPort {
	var list []netip.AddrPort
	sc := bufio.NewScanner(bytes.NewReader(b))
	for sc.Scan() {
		line := sc.Text()
		if line == "" || line[0] == '#' || line[0] == ';' {
			continue
		}
		f := strings.Fields(line)
		if len(f) < 2 || f[0] != "nameserver" {
			continue
		}
		a, err := netip.ParseAddr(f[1])
		if err != nil {
			continue
		}
		list = append(list, netip.AddrPortFrom(a.Unmap(), dnsPort))
	}
	return list
}

// resolvConf is the resolvers of a file, read again when it has changed.
type resolvConf struct {
	path  string
	fixed []netip.AddrPort

	mu    sync.Mutex
	mtime time.Time
	size  int64
	inode uint64
	list  []netip.AddrPort
}

func newResolvConf(path string, fixed []netip.AddrPort) *resolvConf {
	return &resolvConf{path: path, fixed: fixed}
}

// servers returns the resolvers to ask, in order. Without any there is the local
// host, as resolv.conf(5) has it. The result is not to be changed.
func (c *resolvConf) servers() []netip.AddrPort {
	if len(c.fixed) > 0 {
		return c.fixed
	}
	local := []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), dnsPort)}
	c.mu.Lock()
	defer c.mu.Unlock()
	fi, err := os.Stat(c.path)
	if err != nil {
		return local
	}
	var inode uint64
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		inode = st.Ino
	}
	if c.list != nil && fi.ModTime().Equal(c.mtime) && fi.Size() == c.size && inode == c.inode {
		return c.list
	}
	b, err := os.ReadFile(c.path)
	if err != nil {
		return local
	}
	c.mtime, c.size, c.inode = fi.ModTime(), fi.Size(), inode
	if c.list = parseResolvConf(b); len(c.list) == 0 {
		c.list = local
	}
	return c.list
}

// HostResolvers returns a function that tells the name servers of
// /etc/resolv.conf, as they are when it is called.
func HostResolvers() func() []netip.AddrPort {
	return newResolvConf("/etc/resolv.conf", nil).servers
}

// loopback returns those of the resolvers that are on the host's loopback.
func (c *resolvConf) loopback() []netip.AddrPort {
	var list []netip.AddrPort
	for _, s := range c.servers() {
		if s.Addr().IsLoopback() {
			list = append(list, s)
		}
	}
	return list
}

// LoopbackResolvers returns the name servers of /etc/resolv.conf that are on the
// host's loopback (127.0.0.53:53, say), 127.0.0.1:53 if the file names none. A
// program that reads the file will send to them, but its loopback is its stack's
// own, so that the packets never reach a link: whoever serves the program's
// calls has to redirect them, see [Relay.RedirectDNS].
func LoopbackResolvers() []netip.AddrPort {
	return newResolvConf("/etc/resolv.conf", nil).loopback()
}

// LoopbackResolvers is like the function of that name, for the resolvers of this
// relay's configuration. It follows the file's changes.
func (r *Relay) LoopbackResolvers() []netip.AddrPort { return r.res.loopback() }

// RedirectDNS says where a UDP or TCP flow to dst must go instead: for a
// resolver on the host's loopback the relay's own DNS address of the same family
// (10.0.2.3:53). ok is false for every other destination, which is to be left
// alone. The caller writes the result in place of dst in connect and sendto, and
// dst in place of the result in what the program is told of the peer
// (getpeername, recvfrom); it should prefer a socket of the program's own that
// is bound to dst, if there is one.
func (r *Relay) RedirectDNS(dst netip.AddrPort) (to netip.AddrPort, ok bool) {
	plain := netip.AddrPortFrom(dst.Addr().Unmap(), dst.Port())
	if !plain.Addr().IsLoopback() {
		return netip.AddrPort{}, false
	}
	for _, s := range r.res.servers() {
		if s != plain {
			continue
		}
		if plain.Addr().Is4() {
			return netip.AddrPortFrom(r.cfg.DNS4, dnsPort), true
		}
		return netip.AddrPortFrom(r.cfg.DNS6, dnsPort), true
	}
	return netip.AddrPort{}, false
}

package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// maxDNSQueries bounds the queries under way; those beyond it are lost, and
	// the program's resolver asks again.
	maxDNSQueries = 1024

	dnsHeader = 12 // RFC 1035, 4.1.1
)

// queryDNS answers a query over UDP in a goroutine of its own.
func (r *Relay) queryDNS(k flowKey, query []byte, q quote) {
	if len(query) < dnsHeader {
		return
	}
	select {
	case r.dnsSlots <- struct{}{}:
	default:
		r.log.Debug("relay: too many dns queries", "near", k.near)
		return
	}
	query = append([]byte(nil), query...)
	q = append(quote(nil), q...)
	r.stats.dns.begin()
	go func() {
		defer func() {
			r.stats.dns.end()
			<-r.dnsSlots
		}()
		if err := r.resolve(k, query); err != nil {
			r.log.Debug("relay: dns", "near", k.near, "err", err)
			if r.ctx.Err() == nil {
				r.unreachable(k.far.Addr(), q, unix.ECONNREFUSED)
			}
		}
	}()
}

// resolve asks one resolver after the other and passes the first answer to the
// near stack.
func (r *Relay) resolve(k flowKey, query []byte) error {
	buf := datagrams.Get().(*[maxDatagram]byte)
	defer datagrams.Put(buf)
	var errs []error
	for _, s := range r.res.servers() {
		n, err := r.ask(s, query, buf[:])
		if err == nil {
			r.writeUDP(k, buf[:n])
			return nil
		}
		errs = append(errs, fmt.Errorf("resolver %v: %w", s, err))
		if r.ctx.Err() != nil {
			break
		}
	}
	return errors.Join(errs...)
}

// ask sends query to a resolver and waits for the answer with its ID.
func (r *Relay) ask(s netip.AddrPort, query, buf []byte) (int, error) {
	var d net.Dialer
	c, err := d.DialUDP(r.ctx, "udp", netip.AddrPort{}, s)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	defer context.AfterFunc(r.ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })()
	if err := c.SetReadDeadline(time.Now().Add(r.cfg.DNSTimeout)); err != nil {
		return 0, err
	}
	if _, err := c.Write(query); err != nil {
		return 0, err
	}
	for {
		n, err := c.Read(buf)
		if err != nil {
			return 0, err
		}
		if n >= dnsHeader && buf[0] == query[0] && buf[1] == query[1] {
			return n, nil
		}
	}
}

// dialResolver connects to the first resolver that takes TCP.
func (r *Relay) dialResolver() (*net.TCPConn, error) {
	var last error = unix.ECONNREFUSED
	for _, s := range r.res.servers() {
		ctx, cancel := context.WithTimeout(r.ctx, r.cfg.DNSTimeout)
		c, err := dialTCP(ctx, s)
		cancel()
		if err == nil {
			return c, nil
		}
		r.log.Debug("relay: dns over tcp", "resolver", s, "err", err)
		last = err
	}
	return nil, last
}

// Package capture is a link around a link that writes every packet to a pcapng
// file, for tcpdump and Wireshark.
//
// Packets carry nanosecond timestamps and their direction (epb_flags). What is
// sent is written before it is sent, so that an answer never stands before its
// question; a packet that the link then loses is in the file all the same.
//
// With segmentation offload the file has what the stack and the link exchange:
// TCP packets of up to 64 KiB, larger than the MTU, as tcpdump shows them on
// any interface with TSO. A checksum left to the link is completed in the file,
// so that readers find all of them right.
//
// Where it is known whose socket a packet belongs to, its comment says so.
package capture

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/alptrace/alptrace/internal/spool"
	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/observe/owner"
)

// Options of a capture; the zero value works.
type Options struct {
	// Comment is about the whole file, Description about the link.
	Comment, Description string
	// Now stamps the packets; nil is time.Now. Of a capture with a clock of its
	// own, as a simulation's, nothing is written because real time has passed.
	Now func() time.Time
	// Owners is who has the sockets, for the packets' comments; nil is nobody.
	Owners *owner.Registry
	// Live is for a writer that somebody reads from while packets pass, a pipe.
	// It gets them soon, and where it does not take them they are lost: the
	// link does not wait for it. The next packet in the file has their number.
	Live bool
	// Logger hears once when writing fails; nil is silence. The link goes on.
	Logger *slog.Logger
}

const (
	// flushAfter is how long a packet may stay in memory, liveAfter if somebody
	// waits for it.
	flushAfter, liveAfter = 500 * time.Millisecond, 50 * time.Millisecond
	// flushSize is how many bytes may, liveSize if somebody waits for them.
	flushSize, liveSize = 256 << 10, 64 << 10
	// liveLimit is how many bytes wait for somebody at most.
	liveLimit = 8 << 20
)

// Link is a link whose packets are written down.
type Link struct {
	link.Link
	medium link.Medium
	now    func() time.Time
	owners *owner.Registry
	log    *slog.Logger
	spool  *spool.Spool
}

var _ link.Link = (*Link)(nil)

// Wrap begins a capture of l into w, which gets whole pcapng blocks in each
// Write: at the latest half a second after a packet, and at Close, so that the
// file can be read after alptrace was killed. w is the caller's to close,
// after the returned link. Closing that closes l.
func Wrap(l link.Link, w io.Writer, opts Options) (*Link, error) {
	c := &Link{Link: l, medium: l.Medium(), now: opts.Now, owners: opts.Owners, log: opts.Logger}
	so := spool.Options{Delay: flushAfter, Size: flushSize}
	if opts.Live {
		so = spool.Options{Delay: liveAfter, Size: liveSize, Limit: liveLimit}
	}
	if c.now == nil {
		c.now = time.Now
	} else {
		so.Delay = 0
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if _, err := w.Write(appendHeader(nil, l, &opts)); err != nil {
		return nil, fmt.Errorf("capture of %s: %w", l.Name(), err)
	}
	so.Failed = func(err error) { c.log.Error("the capture ends early", "link", l.Name(), "err", err) }
	c.spool = spool.New(w, so)
	return c, nil
}

// Unwrap is the captured link.
func (c *Link) Unwrap() link.Link { return c.Link }

// Send writes the packets down and sends them.
func (c *Link) Send(pkts []link.Packet) (int, error) {
	c.record(pkts, outbound)
	return c.Link.Send(pkts)
}

// Start begins delivery; packets are written down before recv sees them.
func (c *Link) Start(recv func(pkts []link.Packet)) error {
	return c.Link.Start(func(pkts []link.Packet) {
		c.record(pkts, inbound)
		recv(pkts)
	})
}

// Close closes the link and ends the file. The error is that of the link, or
// of the first failed write.
func (c *Link) Close() error {
	err := c.Link.Close()
	if e := c.spool.Close(); e != nil {
		err = errors.Join(err, fmt.Errorf("capture of %s: %w", c.Name(), e))
	}
	return err
}

// Err says what is wrong with the file, if anything: a failed write, after which
// nothing more was written, or packets that nobody took in time.
func (c *Link) Err() error {
	err, lost := c.spool.Err(), c.spool.Lost()
	switch {
	case err != nil && lost > 0:
		return fmt.Errorf("the capture of %s ends early, without its last %d packets: %w", c.Name(), lost, err)
	case err != nil:
		return fmt.Errorf("the capture of %s ends early: %w", c.Name(), err)
	case lost > 0:
		return fmt.Errorf("%d packets are missing in the capture of %s: they were not read in time", lost, c.Name())
	}
	return nil
}

func (c *Link) record(pkts []link.Packet, d direction) {
	for i := range pkts {
		b, lost, ok := c.spool.Begin()
		if ok { // stamped in the spool's lock: time does not run backwards in the file
			c.spool.End(c.appendPacket(b, &pkts[i], c.now(), d, lost))
		}
	}
}

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
package capture

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/alptrace/alptrace/link"
)

// Options of a capture; the zero value works.
type Options struct {
	// Comment is about the whole file, Description about the link.
	Comment, Description string
	// Now stamps the packets; nil is time.Now.
	Now func() time.Time
	// Logger hears once when writing fails; nil is silence. The link goes on.
	Logger *slog.Logger
}

const (
	// flushAfter is how long a packet may stay in memory.
	flushAfter = 500 * time.Millisecond
	// flushSize is how many bytes may.
	flushSize = 256 << 10
)

// Link is a link whose packets are written down.
type Link struct {
	link.Link
	medium link.Medium
	now    func() time.Time
	log    *slog.Logger

	mu     sync.Mutex
	w      io.Writer
	buf    []byte // whole blocks
	timer  *time.Timer
	armed  bool
	closed bool
	err    error // of the first failed write; nothing is written after it
}

var _ link.Link = (*Link)(nil)

// Wrap begins a capture of l into w, which gets whole pcapng blocks in each
// Write: at the latest half a second after a packet, and at Close, so that the
// file can be read after alptrace was killed. w is the caller's to close,
// after the returned link. Closing that closes l.
func Wrap(l link.Link, w io.Writer, opts Options) (link.Link, error) {
	c := &Link{Link: l, medium: l.Medium(), now: opts.Now, log: opts.Logger, w: w}
	if c.now == nil {
		c.now = time.Now
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.timer = time.AfterFunc(time.Hour, c.expire)
	c.timer.Stop()
	if _, err := w.Write(appendHeader(nil, l, &opts)); err != nil {
		return nil, fmt.Errorf("capture of %s: %w", l.Name(), err)
	}
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
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return err
	}
	c.closed = true
	c.timer.Stop()
	c.flush()
	return errors.Join(err, c.err)
}

func (c *Link) record(pkts []link.Packet, d direction) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.err != nil {
		return
	}
	at := c.now() // in the lock: time does not run backwards in the file
	for i := range pkts {
		c.buf = appendPacket(c.buf, &pkts[i], c.medium, at, d)
		if len(c.buf) >= flushSize {
			c.flush()
		}
	}
	if len(c.buf) > 0 && !c.armed {
		c.armed = true
		c.timer.Reset(flushAfter)
	}
}

// expire flushes what has been in memory long enough.
func (c *Link) expire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.armed = false
	c.flush()
}

// flush writes out what is in memory; c.mu is held.
func (c *Link) flush() {
	if len(c.buf) == 0 || c.err != nil {
		return
	}
	if _, err := c.w.Write(c.buf); err != nil {
		c.err = fmt.Errorf("capture of %s: %w", c.Name(), err)
		c.log.Error("the capture ends early", "err", c.err)
		c.buf = nil
	}
	c.buf = c.buf[:0]
}

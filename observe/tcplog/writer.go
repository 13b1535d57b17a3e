package tcplog

import (
	"cmp"
	"io"
	"time"

	"github.com/alptrace/alptrace/internal/spool"
)

// Writer writes a log.
type Writer struct{ spool *spool.Spool }

const (
	// flushAfter is how long a record may stay in memory, liveAfter if somebody
	// waits for it.
	flushAfter, liveAfter = 500 * time.Millisecond, 50 * time.Millisecond
	// flushSize is how many bytes may.
	flushSize = 64 << 10
	// liveLimit is how many bytes wait for somebody at most.
	liveLimit = 8 << 20
)

// NewWriter begins a log with a header. What is written reaches w in whole
// lines, at the latest half a second later; in virtual time, when enough has
// gathered. w is the caller's to close, after the Writer.
func NewWriter(w io.Writer, h Header) *Writer {
	o := spool.Options{Size: flushSize, Delay: flushAfter}
	if h.Clock == Virtual {
		o.Delay = 0
	}
	return newWriter(w, h, o)
}

// NewLiveWriter is for a log that somebody reads while it is written, from a
// pipe. What the reader does not take in time is lost, and an EvDropped says how
// much.
func NewLiveWriter(w io.Writer, h Header) *Writer {
	return newWriter(w, h, spool.Options{Size: flushSize, Delay: liveAfter, Limit: liveLimit})
}

func newWriter(w io.Writer, h Header, o spool.Options) *Writer {
	h.Schema = Schema
	h.Clock = cmp.Or(h.Clock, Wall)
	wr := &Writer{spool.New(w, o)}
	if b, _, ok := wr.spool.Begin(); ok {
		wr.spool.End(h.append(b))
	}
	return wr
}

// Write appends a record; r is not retained. It is safe for concurrent use.
func (w *Writer) Write(r *Record) {
	b, lost, ok := w.spool.Begin()
	if !ok {
		return
	}
	if lost > 0 {
		b = (&Record{T: r.T, Ev: EvDropped, Pkts: lost}).append(b)
	}
	w.spool.End(r.append(b))
}

// Lost is how many records could not be written.
func (w *Writer) Lost() uint64 { return w.spool.Lost() }

// Close ends the log. The error is that of the first failed write.
func (w *Writer) Close() error { return w.spool.Close() }

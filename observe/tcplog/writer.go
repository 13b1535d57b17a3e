package tcplog

import (
	"cmp"
	"io"
	"sync"
)

// Writer writes a log.
type Writer struct {
	mu  sync.Mutex
	w   io.Writer
	buf []byte
	err error // of the first failed write; nothing is written after it
}

// flushSize is how many bytes may wait in memory.
const flushSize = 64 << 10

// NewWriter begins a log with a header. w is the caller's to close, after the
// Writer.
func NewWriter(w io.Writer, h Header) *Writer {
	h.Schema = Schema
	h.Clock = cmp.Or(h.Clock, Wall)
	return &Writer{w: w, buf: h.append(nil)}
}

// Write appends a record; r is not retained. It is safe for concurrent use.
func (w *Writer) Write(r *Record) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return
	}
	w.buf = r.append(w.buf)
	if len(w.buf) >= flushSize {
		w.flush()
	}
}

// Flush writes out what is in memory. The error is that of the first failed
// write.
func (w *Writer) Flush() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flush()
	return w.err
}

// Close ends the log. The error is that of the first failed write.
func (w *Writer) Close() error { return w.Flush() }

func (w *Writer) flush() {
	if len(w.buf) > 0 && w.err == nil {
		_, w.err = w.w.Write(w.buf)
	}
	w.buf = w.buf[:0]
}

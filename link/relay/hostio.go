package relay

import (
	"io"
	"sync"

	"golang.org/x/sys/unix"
)

// Sizes of the outward copy, bytes.
const (
	copyBuf = 64 << 10
	// direct is the least that is written to the host without first being
	// gathered into copyBuf.
	direct = 16 << 10
)

var copyBufs = sync.Pool{New: func() any { return new([copyBuf]byte) }}

// hostWriter writes segments to a non-blocking socket: large ones as they are,
// small ones gathered. It holds a buffer only while it has bytes in it.
type hostWriter struct {
	fd   int
	err  error
	buf  *[copyBuf]byte
	from int
	to   int
}

// Write implements [io.Writer].
func (w *hostWriter) Write(p []byte) (int, error) {
	total := 0
	for len(p) > 0 {
		if w.to == w.from && len(p) >= direct {
			n := w.write(p)
			total += n
			p = p[n:]
			if w.err != nil {
				return total, w.err
			}
			continue
		}
		if w.buf == nil {
			w.buf = copyBufs.Get().(*[copyBuf]byte)
		}
		n := copy(w.buf[w.to:], p)
		w.to += n
		total += n
		p = p[n:]
		if w.to == copyBuf {
			if w.flush(); w.err != nil {
				return total, w.err
			}
		}
	}
	return total, nil
}

// flush writes what has been gathered, or sets w.err.
func (w *hostWriter) flush() {
	for w.from < w.to && w.err == nil {
		w.from += w.write(w.buf[w.from:w.to])
	}
	if w.from == w.to {
		w.from, w.to = 0, 0
	}
}

func (w *hostWriter) write(p []byte) int {
	for {
		n, err := unix.SendmsgN(w.fd, p, nil, nil, unix.MSG_NOSIGNAL|unix.MSG_DONTWAIT)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			w.err = err
		}
		return max(n, 0)
	}
}

// release gives the buffer back; what is in it is lost.
func (w *hostWriter) release() {
	if w.buf != nil {
		copyBufs.Put(w.buf)
		w.buf = nil
	}
	w.from, w.to = 0, 0
}

// hostReader is a [tcpip.Payloader] that reads from a socket straight into the
// far stack's buffers.
type hostReader struct {
	fd   int
	max  int // bytes at once
	left int // bytes known to be there
	err  error
}

// available looks how much can be read: 0 and not eof if nothing yet.
func (h *hostReader) available() (n int, eof bool) {
	n, err := unix.IoctlGetInt(h.fd, unix.TIOCINQ)
	if err == nil && n > 0 {
		h.left = min(n, h.max)
		return h.left, false
	}
	var b [1]byte
	for {
		n, _, err = unix.Recvfrom(h.fd, b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			h.left = 0
			return 0, false
		case err != nil:
			h.err = err
			return 0, false
		}
		h.left = n
		return n, n == 0
	}
}

// Len implements [tcpip.Payloader].
func (h *hostReader) Len() int { return h.left }

// Read implements [tcpip.Payloader]. It never returns [io.EOF]: the far stack
// would ask for the bytes that Len promised again and again.
func (h *hostReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		n, err := unix.Read(h.fd, p)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil:
			h.err = err
		case n == 0:
			h.err = io.ErrUnexpectedEOF
		}
		n = max(n, 0)
		h.left -= n
		return n, h.err
	}
}

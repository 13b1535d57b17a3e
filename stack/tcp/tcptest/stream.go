package tcptest

import (
	"bytes"
	"fmt"
	"time"

	"github.com/alptrace/alptrace/stack/tcp"
)

// Stream writes a known sequence of bytes at one end and checks it at the other.
type Stream struct {
	From, To  *Host
	Size      int // bytes; what was written is closed when it has been
	Chunk     int // the most that is written at once; 0: all that fits
	ReadLimit int // the most that is read at once; 0: all
	// Hold keeps the reader from reading.
	Hold bool

	Written, Read int
	Done          bool // FIN has been read
	DoneAt        time.Duration
	Err           error
}

// pattern is byte i of the stream.
func pattern(i int) byte { return byte(i>>16) ^ byte(i>>8) ^ byte(i)*31 }

// source gives the pattern from a place on.
type source struct{ at, end int }

func (s *source) Len() int { return s.end - s.at }

func (s *source) Read(p []byte) (int, error) {
	n := min(len(p), s.Len())
	for i := range n {
		p[i] = pattern(s.at + i)
	}
	s.at += n
	return n, nil
}

// Bytes is a tcp.Source of bytes.
func Bytes(b []byte) tcp.Source { return bytes.NewReader(b) }

// Start begins to write and read; call it when the connections exist.
func (s *Stream) Start() {
	clock := s.From.Clock
	kick := func(h *Host, f func()) {
		pending := false
		old := h.OnWake
		h.OnWake = func() {
			if old != nil {
				old()
			}
			if !pending {
				pending = true
				clock.After(0, func() { pending = false; f() })
			}
		}
	}
	kick(s.From, s.write)
	kick(s.To, s.read)
	clock.After(0, s.write)
}

func (s *Stream) write() {
	for s.Written < s.Size && s.From.CanWrite() {
		n := s.Size - s.Written
		if s.Chunk > 0 {
			n = min(n, s.Chunk)
		}
		k := s.From.Write(&source{s.Written, s.Written + n})
		s.Written += k
		if k < n {
			return
		}
	}
	if s.Written == s.Size && s.From.CanWrite() {
		s.From.Shutdown()
	}
}

// Write checks what was read; it implements io.Writer for Conn.Read.
func (s *Stream) Write(p []byte) (int, error) {
	if s.ReadLimit > 0 && len(p) > s.ReadLimit {
		p = p[:s.ReadLimit]
	}
	for i, b := range p {
		if b != pattern(s.Read+i) {
			s.Err = fmt.Errorf("byte %d is %#x, want %#x", s.Read+i, b, pattern(s.Read+i))
			break
		}
	}
	s.Read += len(p)
	return len(p), nil
}

// Resume reads after Hold.
func (s *Stream) Resume() {
	s.Hold = false
	s.read()
}

func (s *Stream) read() {
	if s.Hold {
		return
	}
	for s.To.Readable() > 0 {
		if s.To.Conn.Read(s) == 0 {
			break
		}
	}
	if s.To.PeerClosed() && s.To.Readable() == 0 && !s.Done {
		s.Done, s.DoneAt = true, s.To.Clock.Now()
	}
}

// Fill gives a segment n bytes of payload: what a Stream of a peer whose initial
// sequence number is iss has at its place.
func Fill(s *tcp.Segment, iss tcp.Seq, n int) {
	b := make([]byte, n)
	at := s.Seq.Sub(iss.Add(1))
	for i := range b {
		b[i] = pattern(at + i)
	}
	s.Data, s.DataLen = []tcp.Chunk{{B: b}}, n
}

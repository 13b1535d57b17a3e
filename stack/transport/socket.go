package transport

import (
	"io"
	"time"

	"golang.org/x/sys/unix"
)

// Host is what a [Socket] stands on: a stack, or a test.
type Host interface {
	// Now is the time since some moment before.
	Now() time.Duration
	// Rand gives random bits.
	Rand() uint64
	// Send sends a packet, which it does not keep.
	Send(pkt []byte)
	// SetTimer has [Socket.Timer] called at a time; 0: never.
	SetTimer(at time.Duration)
	// MaxPacket is the length of the largest packet after its ports, bytes.
	MaxPacket() int
	// Changed says that the program might be told of something.
	Changed()
}

// Phase is how far a connection is.
type Phase uint8

// The phases.
const (
	Fresh Phase = iota
	Opening
	Open
	Closed
)

// Socket is the framework's part of one end of a connection: what the program
// wrote, what it may read, and the way to the network. The first group of methods
// is for the author of a [Conn], the second for who drives it; neither may be
// used by two goroutines at once.
type Socket struct {
	host  Host
	conn  Conn
	phase Phase
	err   unix.Errno

	out, in         fifo
	outMax, inMax   int
	ended, endAcked bool // by the program; by the peer
	peerEnded       bool
	timer           time.Duration
}

// Now is the time since some moment before the connection.
func (s *Socket) Now() time.Duration { return s.host.Now() }

// Rand gives random bits, for initial sequence numbers and the like.
func (s *Socket) Rand() uint64 { return s.host.Rand() }

// SetTimer has Conn.Timer called once, in d. There is one timer: what was set
// before is forgotten.
func (s *Socket) SetTimer(d time.Duration) {
	s.timer = s.host.Now() + max(d, 1)
	s.host.SetTimer(s.timer)
}

// StopTimer stops it.
func (s *Socket) StopTimer() {
	s.timer = 0
	s.host.SetTimer(0)
}

// Send sends a packet: what follows the ports, at most MaxPacket bytes. It may be
// lost, doubled or overtaken. pkt is the caller's again afterwards.
func (s *Socket) Send(pkt []byte) { s.host.Send(pkt) }

// MaxPacket is the length of the largest packet that the way takes, bytes.
func (s *Socket) MaxPacket() int { return s.host.MaxPacket() }

// Established says that both ends have agreed: the program's connect(2), or the
// listener's accept(2), succeeds.
func (s *Socket) Established() {
	if s.phase == Opening {
		s.phase = Open
		s.host.Changed()
	}
}

// Peek copies what the program has written and the peer has not acknowledged into
// p, from the byte off on, and returns how many bytes that were.
func (s *Socket) Peek(off int, p []byte) int { return s.out.peek(off, p) }

// Pending is how many bytes that is in all.
func (s *Socket) Pending() int { return s.out.len() }

// Acked forgets the first n bytes of it.
func (s *Socket) Acked(n int) {
	s.out.drop(n)
	s.host.Changed()
}

// Ended says that the program will write no more: after what is Pending, the peer
// is to be told.
func (s *Socket) Ended() bool { return s.ended }

// EndAcked says that the peer knows of the end, and has all that came before.
func (s *Socket) EndAcked() { s.endAcked = true }

// Deliver gives the program bytes, in order, at most Room.
func (s *Socket) Deliver(p []byte) {
	s.in.write(p[:min(len(p), s.Room())])
	s.host.Changed()
}

// Room is how many bytes the program's buffer takes.
func (s *Socket) Room() int { return max(s.inMax-s.in.len(), 0) }

// PeerEnded says that the peer will send no more: the program reads the end of
// the file after what was delivered.
func (s *Socket) PeerEnded() {
	s.peerEnded = true
	s.host.Changed()
}

// Close says that the connection is over: with 0, as it should be; else the
// program gets the error (ECONNREFUSED, ECONNRESET, ETIMEDOUT, ...).
func (s *Socket) Close(err unix.Errno) {
	if s.phase == Closed {
		return
	}
	s.phase, s.err = Closed, err
	s.StopTimer()
	s.host.Changed()
}

// What follows is for who drives a connection.

// NewSocket makes a connection's end; send and receive are the sizes of its
// buffers, bytes.
func NewSocket(h Host, p *Protocol, send, receive int) *Socket {
	s := &Socket{host: h, outMax: send, inMax: receive}
	s.conn = p.Stream(s)
	return s
}

// SetBuffers changes the sizes of the buffers; 0 leaves one as it is.
func (s *Socket) SetBuffers(send, receive int) {
	if send > 0 {
		s.outMax = send
	}
	if receive > 0 {
		s.inMax = receive
	}
}

// Phase is how far the connection is.
func (s *Socket) Phase() Phase { return s.phase }

// Err is why it is over.
func (s *Socket) Err() unix.Errno { return s.err }

// Ends says who has ended their half, and whether the peer knows.
func (s *Socket) Ends() (ended, acked, peer bool) { return s.ended, s.endAcked, s.peerEnded }

// Connect opens the connection.
func (s *Socket) Connect() {
	s.phase = Opening
	s.conn.Connect()
}

// Receive has a packet for the connection, which opens if it is the first.
func (s *Socket) Receive(pkt []byte) {
	if s.phase == Fresh {
		s.phase = Opening
	}
	if s.phase != Closed {
		s.conn.Receive(pkt)
	}
}

// Timer is for when the time of Host.SetTimer has come.
func (s *Socket) Timer() {
	if s.timer == 0 || s.phase == Closed {
		return
	}
	if s.host.Now() < s.timer { // an older one
		s.host.SetTimer(s.timer)
		return
	}
	s.timer = 0
	s.conn.Timer()
}

// Error has an ICMP error for the connection.
func (s *Socket) Error(err unix.Errno) {
	if s.phase == Opening || s.phase == Open {
		s.conn.Error(err)
	}
}

// Space is how many bytes Write takes now.
func (s *Socket) Space() int { return max(s.outMax-s.out.len(), 0) }

// Write has bytes of the program's, at most Space.
func (s *Socket) Write(p []byte) {
	s.out.write(p)
	if s.phase == Open {
		s.conn.Written()
	}
}

// Readable is how many bytes Read has.
func (s *Socket) Readable() int { return s.in.len() }

// Read moves received bytes into w, until it takes no more.
func (s *Socket) Read(w io.Writer) int {
	n := s.in.writeTo(w)
	if n > 0 && s.phase == Open {
		s.conn.Consumed()
	}
	return n
}

// End says that the program writes no more.
func (s *Socket) End() {
	if !s.ended && s.phase != Closed {
		s.ended = true
		s.conn.Written()
	}
}

// Abort ends the connection at once.
func (s *Socket) Abort() {
	if s.phase == Opening || s.phase == Open {
		s.conn.Abort()
	}
	s.Close(unix.ECONNABORTED)
}

// fifo is a queue of bytes.
type fifo struct {
	b    []byte
	head int
}

func (f *fifo) len() int { return len(f.b) - f.head }

func (f *fifo) write(p []byte) {
	if f.head > len(f.b)/2 && len(f.b)+len(p) > cap(f.b) {
		f.b = f.b[:copy(f.b, f.b[f.head:])]
		f.head = 0
	}
	f.b = append(f.b, p...)
}

func (f *fifo) peek(off int, p []byte) int {
	if off >= f.len() {
		return 0
	}
	return copy(p, f.b[f.head+off:])
}

func (f *fifo) drop(n int) {
	if f.head += min(n, f.len()); f.head == len(f.b) {
		f.b, f.head = f.b[:0], 0
		if cap(f.b) > 64<<10 { // an idle connection has no large buffer
			f.b = nil
		}
	}
}

func (f *fifo) writeTo(w io.Writer) int {
	if f.len() == 0 {
		return 0
	}
	n, _ := w.Write(f.b[f.head:])
	f.drop(n)
	return n
}

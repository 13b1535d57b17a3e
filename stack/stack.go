// Package stack is the seam between the sockets of a traced program and the
// network stack that serves them.
//
// An [Engine] is one stack: gVisor's netstack (stack/netstack), the host's own
// kernel (stack/host), later others. It makes an [Endpoint] for each socket.
// Both sides of the seam speak Linux: addresses carry what a sockaddr carries,
// options are (level, name, bytes) exactly as setsockopt(2) and getsockopt(2)
// have them, and every error is an errno that the man page of the call lists.
// No engine's own types appear here, so an engine may as well be another
// process or another kernel.
//
// No method blocks. What cannot be done now answers EAGAIN (or EINPROGRESS for
// Connect), and the function given to [Endpoint.Notify] is called when it is
// worth trying again. All methods are safe for concurrent use.
package stack

import (
	"context"
	"io"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Errno is a Linux error number; 0 is success.
type Errno = unix.Errno

// Addr is the content of a sockaddr_in or sockaddr_in6. The zero Addr is the
// unspecified address (INADDR_ANY or in6addr_any, as the socket's family is)
// and port 0. An IPv4-mapped IPv6 address stays mapped (IP.Is4In6).
type Addr struct {
	IP    netip.Addr // invalid: unspecified; never carries a zone
	Port  uint16     // host byte order; for raw sockets the protocol or 0
	Scope uint32     // sin6_scope_id: an interface index, or 0
	Flow  uint32     // sin6_flowinfo, network byte order as in the sockaddr
}

// Engine is a network stack. See the package comment for the contract.
type Engine interface {
	// Name is the engine's name as --engine has it.
	Name() string

	// Socket makes an endpoint. The arguments are those of socket(2); typ has
	// no SOCK_NONBLOCK or SOCK_CLOEXEC. Errors as socket(2): EAFNOSUPPORT,
	// EPROTONOSUPPORT, ESOCKTNOSUPPORT, EINVAL, EPERM.
	Socket(family, typ, proto int) (Endpoint, Errno)

	// Interfaces lists the stack's network interfaces, loopback first.
	Interfaces() []Interface

	// Stats counts what the stack has done so far.
	Stats() Stats

	// Drain waits until every endpoint that was closed has delivered what was
	// written to it and has had its FIN acknowledged, or has given up as a
	// kernel would, or until ctx is done. TIME_WAIT is not waited for.
	Drain(ctx context.Context)

	// Close ends the stack and its links.
	Close() error
}

// Endpoint is the half of a socket that lives in the stack.
type Endpoint interface {
	// Bind, Connect and Listen are as the calls of that name; Connect answers
	// EINPROGRESS when the handshake has begun, after which readiness shows
	// POLLOUT (and POLLERR when it failed) and TakeError the outcome. A second
	// Connect answers EALREADY while the handshake is under way, 0 once after
	// it has succeeded, then EISCONN.
	Bind(Addr) Errno
	Connect(Addr) Errno
	// Disconnect is connect(2) with AF_UNSPEC.
	Disconnect() Errno
	Listen(backlog int) Errno
	// Accept gives the next established connection, EAGAIN if there is none,
	// EINVAL if the endpoint does not listen. Options are inherited as Linux
	// inherits them.
	Accept() (Endpoint, Errno)
	// Shutdown takes unix.SHUT_RD, SHUT_WR or SHUT_RDWR. ENOTCONN as Linux.
	Shutdown(how int) Errno

	// LocalAddr is getsockname(2): never an error, unspecified when unbound.
	LocalAddr() Addr
	// PeerAddr is getpeername(2): ENOTCONN when there is no peer.
	PeerAddr() (Addr, Errno)

	// SetOption and GetOption are setsockopt(2) and getsockopt(2) in Linux's
	// byte layout, with Linux's defaults, ranges, rounding and errno;
	// ENOPROTOOPT for options that do not exist. GetOption fills at most
	// len(val) bytes and returns how many it filled. SO_ERROR goes through
	// TakeError, not through GetOption.
	SetOption(level, name int, val []byte) Errno
	GetOption(level, name int, val []byte) (int, Errno)

	// TakeError returns the pending error (SO_ERROR) and clears it.
	TakeError() Errno

	// Readiness is the poll(2) mask of the socket now: POLLIN, POLLOUT,
	// POLLERR, POLLHUP, POLLRDHUP, POLLPRI.
	Readiness() uint32
	// Notify sets the one function that is called after anything changed that
	// Readiness might show. It may be called from any goroutine, with the
	// engine's locks held: it must not block nor call the endpoint. nil stops it.
	Notify(func())

	// ReadTo moves received bytes of a stream into w until there are no more
	// or w takes less than it was given, which is no error. It returns the
	// number moved. (0, 0) is the peer's FIN, EAGAIN no data yet, else the
	// pending error (ECONNRESET, ETIMEDOUT, ...), which it clears, as read(2).
	ReadTo(w io.Writer) (int, Errno)
	// WriteFrom moves bytes from r into the stream's send queue, at most
	// r.Len() and at most what fits. EAGAIN when nothing fits now; EPIPE after
	// SHUT_WR; else the pending error, which it clears.
	WriteFrom(r Source) (int, Errno)

	// Send sends one message (UDP, ICMP, raw), to m.Addr if m.HasAddr.
	// EDESTADDRREQ, EMSGSIZE, EAGAIN, ENETUNREACH, EACCES, EISCONN as send(2).
	// It binds an unbound endpoint first. m.Data is not retained.
	Send(m *Message) (int, Errno)
	// Recv takes the next message into m: Data is appended to m.Data[:0] whole
	// (growing it if need be), Addr is the source, Control the ancillary data
	// that the socket's options ask for. EAGAIN when there is none.
	Recv(m *Message) Errno
	// RecvError takes the next entry of the error queue (MSG_ERRQUEUE), its
	// sock_extended_err in m.Control. EAGAIN when there is none.
	RecvError(m *Message) Errno

	// Queued is the number of bytes received but not read (SIOCINQ; for
	// messages the size of the next) and sent but not acknowledged (SIOCOUTQ).
	Queued() (in, out int)

	// Close releases the endpoint as the last close(2) does: what was written
	// is still delivered, then FIN; RST where Linux sends one (unread data,
	// SO_LINGER 0). Abort releases it at once, with RST if there is a peer.
	Close()
	Abort()
}

// Source is where WriteFrom reads: Len is how many bytes can be read now.
type Source interface {
	io.Reader
	Len() int
}

// Message is one datagram with its address and ancillary data.
type Message struct {
	Data    []byte
	Addr    Addr
	HasAddr bool
	// Control is ancillary data as a sequence of cmsghdr in the layout of
	// 64-bit Linux (cmsg(3)); empty if none.
	Control []byte
	// Flags are MSG_* bits: on Send those that the program gave (MSG_CONFIRM,
	// MSG_DONTROUTE, MSG_MORE), on Recv those to report (MSG_TRUNC,
	// MSG_CTRUNC, MSG_ERRQUEUE).
	Flags int
}

// Interface is a network interface as the SIOCGIF* ioctls show it.
type Interface struct {
	Index        int
	Name         string
	MTU          int
	Flags        uint16 // IFF_*
	HardwareType uint16 // ARPHRD_*
	HardwareAddr net.HardwareAddr
	Addrs        []netip.Prefix
}

// Stats counts since the engine started.
type Stats struct {
	Sockets         uint64 // endpoints made, accepted ones included
	PacketsIn       uint64
	PacketsOut      uint64
	BytesIn         uint64 // of packets, link headers not counted
	BytesOut        uint64
	Retransmissions uint64 // TCP segments
}

// Prober is an [Engine] that tells what its TCP connections do.
type Prober interface {
	// Probe has f called with the state of a connection after each segment that
	// it received, each write of the program, each retransmission and each
	// change of state; a state that stays is not left out. f may be called from
	// any goroutine, with the engine's locks held: it must not block nor call
	// the engine. nil ends it.
	Probe(f func(TCPSample))
}

// TCPSample is what the sender of a TCP connection knows at one moment. The
// names are those of struct tcp_info (linux/tcp.h) where it has them, but what
// that counts in segments is in bytes here. From SYN_SENT and SYN_RECV, and
// after CLOSE, only the addresses and State are known.
type TCPSample struct {
	Local, Remote netip.AddrPort
	State         uint8         // tcpi_state: TCP_ESTABLISHED is 1
	CAState       uint8         // tcpi_ca_state: TCP_CA_Open is 0
	SndMSS        uint32        // bytes
	SndCwnd       uint64        // bytes
	SndSsthresh   uint64        // bytes; 0 while it is infinite
	InFlight      uint64        // sent and neither acknowledged nor taken for lost, bytes
	SndWnd        uint64        // of the peer, bytes
	RTT, RTTVar   time.Duration // smoothed round-trip time and its variation (RFC 6298); 0 before the first
	RTO           time.Duration
	TotalRetrans  uint64 // segments
	Timeouts      uint64 // how often the retransmission timer has expired
}

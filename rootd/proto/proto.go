// Package proto is the language between rootd and those who share the host's
// address through it: the messages on rootd's socket, and the client's end.
//
// The socket is AF_UNIX SOCK_SEQPACKET, so the kernel keeps message boundaries
// and one read is one message. A client sends requests, each with a sequence
// number of its choice; rootd answers each with exactly one reply that carries
// the same number, in order. What rootd says unasked ([Revoked], or why it
// closes the connection) has the number 0. The first request says what the connection is for: [Hello] begins
// a lease, [Resume] takes one up again after rootd restarted, [Status] asks
// how things are. The connection is the lease: when it closes, the device and
// all grants are gone.
//
// A message is binary, big endian and at most [MaxMessage] bytes:
//
//	byte 0    version, 1
//	byte 1    type
//	bytes 2-3 zero
//	bytes 4-7 sequence number
//	then      the body, by type
//
// Every decoder here checks lengths and ranges and refuses bytes left over, so
// that a message has one encoding only.
package proto

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"syscall"
	"time"
)

// Version is the version of the messages, the first byte of each.
const Version = 1

// Bounds of messages.
const (
	MaxMessage = 64 << 10 // bytes in one message, header included
	MaxBatch   = 1024     // items in one request
	MaxName    = 64       // bytes in the name of a program
	TokenLen   = 16       // bytes in a resume token
)

// DefaultSocket is where rootd listens unless told otherwise.
const DefaultSocket = "/run/alptrace/rootd.sock"

// IP protocol numbers that a grant may have. For the echo protocols the port
// is the identifier of the echo request.
const (
	ICMP   = 1
	TCP    = 6
	UDP    = 17
	ICMPv6 = 58
)

// Flags are the options of the socket for which a grant is asked, and what is
// being done with it.
type Flags uint8

// The flags.
const (
	// ReuseAddr: SO_REUSEADDR is set. It lets a TCP port that is held back
	// after a lease of the same user, or that the kernel holds only for
	// connections in TIME_WAIT, be had.
	ReuseAddr Flags = 1 << iota
	// ReusePort: SO_REUSEPORT is set. Among the sockets of one lease the
	// client decides; between two stacks a port cannot be shared.
	ReusePort
	// Listening: this is the check that listen(2) makes of a bound port.
	Listening
	// V6Only: an address of :: means IPv6 only. Without it a grant or
	// release of :: is for 0.0.0.0 as well, both or neither.
	V6Only
	// Hold, in a release: connections of this TCP port are in TIME_WAIT, so
	// rootd holds it back before others may have it. Without it the client
	// vouches that nothing is left.
	Hold

	allFlags = ReuseAddr | ReusePort | Listening | V6Only | Hold
)

// Families is a set of address families.
type Families uint8

// The families.
const (
	IPv4 Families = 1 << iota
	IPv6
	Both = IPv4 | IPv6
)

// Item is one grant that is asked for or given back.
type Item struct {
	Proto uint8
	// Addr is an address of the host or a loopback address; unspecified
	// (0.0.0.0, ::) is any address of the host, of that family. It has no
	// zone: an address of the host is found on whatever interface has it.
	Addr netip.Addr
	// Port is the local port or echo identifier; 0, in a request for a
	// grant, one that rootd chooses.
	Port  uint16
	Flags Flags
}

// Result is the answer to one item.
type Result struct {
	// Errno is 0, or what the system call that wanted the grant should
	// answer: EADDRINUSE, EACCES (policy), EADDRNOTAVAIL (no address of this
	// host), ENOBUFS (a limit), EPROTONOSUPPORT, EINVAL.
	Errno syscall.Errno
	// Port is the port granted.
	Port uint16
}

// Limits is what a lease may have.
type Limits struct {
	Grants uint32 // at a time, of all leases of the user together
	Rate   uint32 // items a second; rootd reads no faster
}

// Welcome answers Hello and Resume.
type Welcome struct {
	Lease  uint32
	Token  [TokenLen]byte // for Resume
	Device string         // name of the TUN device
	Index  uint32         // its interface index
	MTU    uint32         // in bytes
	Limits Limits
	// PortFirst and PortLast are the host's range of ephemeral ports
	// (net.ipv4.ip_local_port_range).
	PortFirst, PortLast uint16
	// Unprivileged is the first port that needs no privilege
	// (net.ipv4.ip_unprivileged_port_start).
	Unprivileged uint16
	// Grace is how long after a restart of rootd a Resume is accepted.
	Grace time.Duration
	// File is the device: packets with a virtio-net header of 10 bytes, no
	// packet information. Nil in the answer to Resume: the client has it.
	File *os.File
}

// The messages. Those of clients:
type (
	// Hello begins a lease.
	Hello struct{ Program string }
	// Resume takes up a lease that a former rootd gave.
	Resume struct {
		Lease uint32
		Token [TokenLen]byte
	}
	// Grant asks for grants, of which each succeeds or fails alone. One that
	// the lease has already succeeds again; rootd does not count them.
	Grant struct{ Items []Item }
	// Release gives grants back; giving back what one does not have is
	// EINVAL.
	Release struct{ Items []Item }
	// Ephemeral asks for N ports from the host's ephemeral range, each
	// granted on any address of the families, at the same port in each.
	Ephemeral struct {
		Proto    uint8
		Families Families
		N        uint16
	}
	// Status asks for the state of rootd: of all leases for root, of their
	// own for others.
	Status struct{}
)

// Those of rootd:
type (
	// Results answers Grant, Release and Ephemeral: as many as there were
	// items, or ports got (fewer than asked for is no error, none is one
	// result with an errno).
	Results struct{ Results []Result }
	// StatusReply comes with the descriptor of a sealed memory file that
	// holds Size bytes of JSON.
	StatusReply struct{ Size uint32 }
	// Failure answers a request that failed as a whole. With sequence number
	// 0 it is about the connection, which rootd then closes.
	Failure struct {
		Errno syscall.Errno
		Text  string
	}
	// Revoked says that grants are gone since the policy changed. Its
	// sequence number is 0.
	Revoked struct{ Items []Item }
)

// Message is one of the types above that travel.
type Message interface{ kind() uint8 }

const (
	kindHello = iota + 1
	kindResume
	kindGrant
	kindRelease
	kindEphemeral
	kindStatus
	kindWelcome = iota + 0x81 - 6
	kindResults
	kindStatusReply
	kindFailure
	kindRevoked
)

func (Hello) kind() uint8       { return kindHello }
func (Resume) kind() uint8      { return kindResume }
func (Grant) kind() uint8       { return kindGrant }
func (Release) kind() uint8     { return kindRelease }
func (Ephemeral) kind() uint8   { return kindEphemeral }
func (Status) kind() uint8      { return kindStatus }
func (Welcome) kind() uint8     { return kindWelcome }
func (Results) kind() uint8     { return kindResults }
func (StatusReply) kind() uint8 { return kindStatusReply }
func (Failure) kind() uint8     { return kindFailure }
func (Revoked) kind() uint8     { return kindRevoked }

// ErrMalformed is in the chain of every error about the bytes of a message.
var ErrMalformed = errors.New("malformed message")

// Error is a request that rootd refused as a whole.
type Error struct {
	Op    string
	Errno syscall.Errno
	Text  string
}

// Error says what rootd said.
func (e *Error) Error() string {
	if e.Text == "" {
		return fmt.Sprintf("rootd: %s: %v", e.Op, e.Errno)
	}
	return fmt.Sprintf("rootd: %s: %s", e.Op, e.Text)
}

// Unwrap gives the errno.
func (e *Error) Unwrap() error { return e.Errno }

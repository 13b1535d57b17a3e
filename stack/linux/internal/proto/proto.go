// Package proto is what the engine and its agent in the guest say to each other
// in the frames of package ring.
//
// Frames from the engine to the agent name an operation, the endpoint, and, if
// there is an answer, the number of the request. What belongs to one endpoint is
// done in the order in which it was sent, and frames arrive in the order in which
// things happened: a state that an answer tells is newer than all told before.
package proto

import (
	"encoding/binary"
	"net/netip"
)

// Operations, to the agent. Those with an answer have a request number.
const (
	OpSocket    = iota + 1 // answer; A family, B type, C protocol
	OpCall                 // answer; A the call, B and C its arguments, then bytes
	OpAccept               // answer; A the number of the new endpoint
	OpSend                 // answer; A flags, B length of the address, C of the control data, then these and the data
	OpData                 // bytes of a stream, to be sent
	OpCredit               // A bytes that the engine has room for again
	OpClose                // A as Close*
	OpReadFile             // answer; the bytes are a path, the answer's are the file's
	OpWriteFile            // answer; A length of the path, then it and the contents
	OpSetup                // answer; the bytes are a Setup in JSON, the answer's an error message
	OpFaces                // answer; []stack.Interface in JSON
	OpProbe                // A how often streams are looked at, microseconds; 0 ends it
	OpUnsent               // answer; the result is how many closed streams wait to be sent
	OpPowerOff
	OpModule // answer; the bytes are a path and parameters, between them a 0
)

// Calls of OpCall.
const (
	CallBind      = iota + 1 // bytes: the address
	CallConnect              // bytes: the address
	CallListen               // B backlog
	CallShutdown             // B how
	CallLocal                // the answer's bytes are the address
	CallPeer                 // the answer's bytes are the address
	CallSetOption            // B level, C name; bytes: the value
	CallGetOption            // B level, C name; bytes: the value, whose length is the room
	CallQueued               // the answer's bytes are two numbers of 32 bits
	CallError                // SO_ERROR; the answer's result is it
	CallRecv                 // receive on a stream where nothing is expected: for the errno
	CallProbe                // send nothing, for the errno
	CallErrQueue             // the answer's bytes are a message
)

// Operations, from the agent.
const (
	OpAnswer  = iota + 64 // Seq; errno, result, mask; then bytes
	OpIn                  // bytes of a stream
	OpMessage             // a message
	OpEvent               // errno, mask, flags
	OpTaken               // A bytes of a stream that the socket has taken
	OpSample              // a stream's struct tcp_info, whenever it has changed
)

// How an endpoint is closed.
const (
	CloseQuietly = iota // as close(2)
	CloseReset          // with RST
)

// MaskUnknown in an answer says that the mask is as it was.
const MaskUnknown = ^uint32(0)

// EventEnd among the flags of OpEvent: the peer's FIN has been read.
const EventEnd = 1

// ArgsLen is the length of the three numbers that frames begin with.
const ArgsLen = 12

// Args writes A, B and C.
func Args(a, b, c uint32) [ArgsLen]byte {
	var x [ArgsLen]byte
	binary.LittleEndian.PutUint32(x[0:], a)
	binary.LittleEndian.PutUint32(x[4:], b)
	binary.LittleEndian.PutUint32(x[8:], c)
	return x
}

// ParseArgs reads what Args wrote, and gives the rest; ok is false where there is
// too little.
func ParseArgs(p []byte) (a, b, c uint32, rest []byte, ok bool) {
	if len(p) < ArgsLen {
		return 0, 0, 0, nil, false
	}
	return binary.LittleEndian.Uint32(p), binary.LittleEndian.Uint32(p[4:]), binary.LittleEndian.Uint32(p[8:]), p[ArgsLen:], true
}

// A message is: flags, length of the address, length of the control data, then
// these and the data.

// Credit of an endpoint: how many bytes the agent may send that the engine has not
// passed on, and how many the engine may send that the socket has not taken. One
// of messages begins with none; 1 is room for one message, however long.
const (
	Window        = 256 << 10
	MessageWindow = 128 << 10 // of datagrams, counted with MessageCost each
	MessageCost   = 256
)

// MaxData is the longest OpData and OpIn, bytes.
const MaxData = 128 << 10

// Setup says how the guest's network is.
type Setup struct {
	Card     bool           `json:"card,omitempty"`  // there is one: eth0
	NoARP    bool           `json:"noarp,omitempty"` // an IP link
	MTU      int            `json:"mtu,omitempty"`
	Addrs    []netip.Prefix `json:"addrs,omitempty"`
	Gateways []netip.Addr   `json:"gateways,omitempty"`
	Sysctls  []Sysctl       `json:"sysctls,omitempty"`
	Admin    bool           `json:"admin,omitempty"` // sockets keep CAP_NET_ADMIN
}

// Sysctl is one value; the name is with dots.
type Sysctl struct{ Name, Value string }

// Hello is what the agent writes to the port first: Magic, the number of pages,
// and then the number of each page frame, 64 bits each. Instead of it may come
// Refused, and a text up to the end.
const (
	Magic   = 0x314e5549504c41a1
	Refused = 0x314e5549504c41ff
)

// EnvAgent in the environment makes the binary the agent, if it is process 1.
// The value is where modules may be: directories with colons between them, in which
// a star stands for the kernel's release.
const EnvAgent = "ALPTRACE_AGENT"

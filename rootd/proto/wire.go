package proto

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"
)

const (
	headerLen = 8
	itemLen   = 21 // proto, family, flags, port, 16 bytes of address
	resultLen = 4
	maxText   = 1024
	maxErrno  = 4095 // MAX_ERRNO of linux/err.h
	maxDevice = 15   // IFNAMSIZ less its NUL
)

// Append appends the encoding of m with sequence number seq to b. It fails
// where m breaks a bound.
func Append(b []byte, seq uint32, m Message) ([]byte, error) {
	start := len(b)
	e := encoder{b: append(b, Version, m.kind(), 0, 0)}
	e.u32(seq)
	switch m := m.(type) {
	case Hello:
		e.str(m.Program, MaxName)
	case Resume:
		e.u32(m.Lease)
		e.b = append(e.b, m.Token[:]...)
	case Grant:
		e.items(m.Items)
	case Release:
		e.items(m.Items)
	case Revoked:
		e.items(m.Items)
	case Ephemeral:
		e.b = append(e.b, m.Proto, byte(m.Families))
		e.u16(m.N)
		if m.Families == 0 || m.Families > Both || m.N == 0 || m.N > MaxBatch {
			e.fail("request for %d ephemeral ports of families %#x", m.N, m.Families)
		}
	case Status:
	case Welcome:
		e.welcome(m)
	case Results:
		e.results(m.Results)
	case StatusReply:
		e.u32(m.Size)
	case Failure:
		e.errno(m.Errno)
		e.str(m.Text, maxText)
	default:
		e.fail("message of type %T", m)
	}
	if e.err != nil {
		return nil, e.err
	}
	if n := len(e.b) - start; n > MaxMessage {
		return nil, fmt.Errorf("%w: %d bytes", ErrMalformed, n)
	}
	return e.b, nil
}

type encoder struct {
	b   []byte
	err error
}

func (e *encoder) fail(format string, args ...any) {
	if e.err == nil {
		e.err = fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
	}
}

func (e *encoder) u16(v uint16) { e.b = binary.BigEndian.AppendUint16(e.b, v) }
func (e *encoder) u32(v uint32) { e.b = binary.BigEndian.AppendUint32(e.b, v) }

func (e *encoder) str(s string, limit int) {
	if len(s) > limit {
		e.fail("string of %d bytes", len(s))
		return
	}
	e.u16(uint16(len(s)))
	e.b = append(e.b, s...)
}

func (e *encoder) errno(n syscall.Errno) {
	if n > maxErrno {
		e.fail("errno %d", uintptr(n))
	}
	e.u16(uint16(n))
}

func (e *encoder) items(items []Item) {
	if len(items) == 0 || len(items) > MaxBatch {
		e.fail("%d items", len(items))
		return
	}
	e.u16(uint16(len(items)))
	for _, it := range items {
		e.item(it)
	}
}

func (e *encoder) item(it Item) {
	a := it.Addr
	switch {
	case !a.IsValid() || a.Is4In6() || a.Zone() != "":
		e.fail("address %q", a)
		return
	case it.Flags&^allFlags != 0:
		e.fail("flags %#x", it.Flags)
		return
	}
	family := byte(4)
	if a.Is6() {
		family = 6
	}
	e.b = append(e.b, it.Proto, family, byte(it.Flags))
	e.u16(it.Port)
	var raw [16]byte
	copy(raw[:], a.AsSlice())
	e.b = append(e.b, raw[:]...)
}

func (e *encoder) results(rs []Result) {
	if len(rs) == 0 || len(rs) > MaxBatch {
		e.fail("%d results", len(rs))
		return
	}
	e.u16(uint16(len(rs)))
	for _, r := range rs {
		e.errno(r.Errno)
		e.u16(r.Port)
	}
}

func (e *encoder) welcome(w Welcome) {
	e.u32(w.Lease)
	e.b = append(e.b, w.Token[:]...)
	e.str(w.Device, maxDevice)
	e.u32(w.Index)
	e.u32(w.MTU)
	e.u32(w.Limits.Grants)
	e.u32(w.Limits.Rate)
	e.u16(w.PortFirst)
	e.u16(w.PortLast)
	e.u16(w.Unprivileged)
	e.u32(uint32(w.Grace.Milliseconds()))
}

// Decode reads one message. The error wraps [ErrMalformed]; the sequence
// number is right whenever there was a header of this version, so that a bad
// request can be answered.
func Decode(b []byte) (seq uint32, m Message, err error) {
	if len(b) < headerLen {
		return 0, nil, fmt.Errorf("%w: %d bytes", ErrMalformed, len(b))
	}
	if b[0] != Version {
		return 0, nil, fmt.Errorf("%w: version %d, this is %d", ErrMalformed, b[0], Version)
	}
	seq = binary.BigEndian.Uint32(b[4:])
	if len(b) > MaxMessage {
		return seq, nil, fmt.Errorf("%w: %d bytes", ErrMalformed, len(b))
	}
	d := decoder{b: b[headerLen:]}
	if b[2] != 0 || b[3] != 0 {
		d.fail("header %x", b[:headerLen])
	}
	m = d.message(b[1])
	if d.err == nil && len(d.b) > 0 {
		d.fail("%d bytes after a message of type %#x", len(d.b), b[1])
	}
	if d.err != nil {
		return seq, nil, d.err
	}
	return seq, m, nil
}

type decoder struct {
	b   []byte
	err error
}

func (d *decoder) message(kind uint8) Message {
	switch kind {
	case kindHello:
		return Hello{Program: d.name(MaxName)}
	case kindResume:
		return Resume{Lease: d.u32(), Token: d.token()}
	case kindGrant:
		return Grant{Items: d.items()}
	case kindRelease:
		return Release{Items: d.items()}
	case kindRevoked:
		return Revoked{Items: d.items()}
	case kindEphemeral:
		m := Ephemeral{Proto: d.u8(), Families: Families(d.u8()), N: d.u16()}
		if m.Families == 0 || m.Families > Both || m.N == 0 || m.N > MaxBatch {
			d.fail("request for %d ephemeral ports of families %#x", m.N, m.Families)
		}
		return m
	case kindStatus:
		return Status{}
	case kindWelcome:
		return d.welcome()
	case kindResults:
		return Results{Results: d.results()}
	case kindStatusReply:
		return StatusReply{Size: d.u32()}
	case kindFailure:
		return Failure{Errno: d.errno(), Text: d.name(maxText)}
	default:
		d.fail("type %#x", kind)
		return nil
	}
}

func (d *decoder) fail(format string, args ...any) {
	if d.err == nil {
		d.err = fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
	}
	d.b = nil
}

// take returns the next n bytes; zeros after a failure, so that callers need
// not ask.
func (d *decoder) take(n int) []byte {
	if len(d.b) < n {
		d.fail("it ends early")
		return make([]byte, n)
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *decoder) u8() uint8   { return d.take(1)[0] }
func (d *decoder) u16() uint16 { return binary.BigEndian.Uint16(d.take(2)) }
func (d *decoder) u32() uint32 { return binary.BigEndian.Uint32(d.take(4)) }

func (d *decoder) errno() syscall.Errno {
	n := d.u16()
	if n > maxErrno {
		d.fail("errno %d", n)
	}
	return syscall.Errno(n)
}

// name reads a string fit for a terminal and a log: printable UTF-8.
func (d *decoder) name(limit int) string {
	n := int(d.u16())
	if n > limit {
		d.fail("string of %d bytes", n)
		return ""
	}
	s := string(d.take(n))
	if !utf8.ValidString(s) || strings.ContainsFunc(s, control) {
		d.fail("string %q", s)
		return ""
	}
	return s
}

func (d *decoder) token() (t [TokenLen]byte) {
	copy(t[:], d.take(TokenLen))
	return t
}

// count reads the number of entries of size bytes each that follow.
func (d *decoder) count(size int) int {
	n := int(d.u16())
	if n == 0 || n > MaxBatch || len(d.b) < n*size {
		d.fail("%d entries in %d bytes", n, len(d.b))
		return 0
	}
	return n
}

func (d *decoder) items() []Item {
	items := make([]Item, d.count(itemLen))
	for i := range items {
		items[i] = d.item()
	}
	return items
}

func (d *decoder) item() Item {
	it := Item{Proto: d.u8()}
	family := d.u8()
	it.Flags = Flags(d.u8())
	it.Port = d.u16()
	raw := [16]byte(d.take(16))
	switch {
	case family == 4 && [12]byte(raw[4:]) == [12]byte{}:
		it.Addr = netip.AddrFrom4([4]byte(raw[:4]))
	case family == 6 && !netip.AddrFrom16(raw).Is4In6():
		it.Addr = netip.AddrFrom16(raw)
	default:
		d.fail("address %x of family %d", raw, family)
	}
	if it.Flags&^allFlags != 0 {
		d.fail("flags %#x", it.Flags)
	}
	return it
}

func (d *decoder) results() []Result {
	rs := make([]Result, d.count(resultLen))
	for i := range rs {
		rs[i] = Result{Errno: d.errno(), Port: d.u16()}
	}
	return rs
}

func (d *decoder) welcome() Welcome {
	return Welcome{
		Lease:        d.u32(),
		Token:        d.token(),
		Device:       d.name(maxDevice),
		Index:        d.u32(),
		MTU:          d.u32(),
		Limits:       Limits{Grants: d.u32(), Rate: d.u32()},
		PortFirst:    d.u16(),
		PortLast:     d.u16(),
		Unprivileged: d.u16(),
		Grace:        time.Duration(d.u32()) * time.Millisecond,
	}
}

// Name cuts and cleans s into what a Hello may carry.
func Name(s string) string {
	s = Clean(s)
	for len(s) > MaxName {
		_, n := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-n]
	}
	return s
}

// Clean replaces what a string in a message may not have: what is no UTF-8 and
// control characters.
func Clean(s string) string {
	return strings.Map(func(r rune) rune {
		if control(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
}

func control(r rune) bool { return r < ' ' || r >= 0x7f && r < 0xa0 }

package plot

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/bits"
)

// packet is one of a capture. data is valid until the next call of next.
type packet struct {
	t        int64 // ns since 1970
	linkType uint32
	data     []byte // what was captured of it
	length   int    // on the wire, with link header
}

// packetReader reads a capture; io.EOF ends it, any other error says where
// it stopped making sense.
type packetReader interface {
	next(*packet) error
}

// maxBlock bounds a pcapng block or a pcap packet, bytes: BIG TCP's packets
// are up to 512 KiB.
const maxBlock = 16 << 20

var errCutOff = errors.New("the file is cut off")

// cutOff turns an end in the middle of something into errCutOff.
func cutOff(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errCutOff
	}
	return err
}

// pcapReader reads the classic format, draft-ietf-opsawg-pcap: either byte
// order, micro- or nanoseconds.
type pcapReader struct {
	r        *bufio.Reader
	order    binary.ByteOrder
	frac     int64 // ns of the timestamp's second half
	linkType uint32
	buf      []byte
}

func newPcapReader(r *bufio.Reader) (*pcapReader, error) {
	var h [24]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, cutOff(err)
	}
	p := &pcapReader{r: r, order: binary.LittleEndian}
	switch le, be := binary.LittleEndian.Uint32(h[:]), binary.BigEndian.Uint32(h[:]); {
	case le == pcapMicro:
		p.frac = 1000
	case le == pcapNano:
		p.frac = 1
	case be == pcapMicro:
		p.order, p.frac = binary.BigEndian, 1000
	case be == pcapNano:
		p.order, p.frac = binary.BigEndian, 1
	}
	p.linkType = p.order.Uint32(h[20:]) & 0x0fffffff
	return p, nil
}

func (p *pcapReader) next(pkt *packet) error {
	var h [16]byte
	if _, err := io.ReadFull(p.r, h[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return io.EOF
		}
		return cutOff(err)
	}
	n := p.order.Uint32(h[8:])
	if n > maxBlock {
		return fmt.Errorf("a packet of %d bytes makes no sense", n)
	}
	p.buf = grow(p.buf, int(n))
	if _, err := io.ReadFull(p.r, p.buf); err != nil {
		return cutOff(err)
	}
	*pkt = packet{
		t:        int64(p.order.Uint32(h[0:]))*1e9 + int64(p.order.Uint32(h[4:]))*p.frac,
		linkType: p.linkType,
		data:     p.buf,
		length:   int(p.order.Uint32(h[12:])),
	}
	return nil
}

// grow gives a slice of n bytes, b's if it has room.
func grow(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n, n+n/2)
	}
	return b[:n]
}

// ngInterface is what an interface description block says.
type ngInterface struct {
	linkType uint32
	snapLen  uint32
	units    uint64 // of a timestamp in a second
	offset   int64  // seconds
}

// time is a timestamp in ns since 1970.
func (i *ngInterface) time(ts uint64) (int64, error) {
	sec := ts / i.units
	hi, lo := bits.Mul64(ts%i.units, 1e9)
	ns, _ := bits.Div64(hi, lo, i.units)
	at := int64(sec) + i.offset
	if sec > 9e9 || at < -9e9 || at > 9e9 {
		return 0, fmt.Errorf("the timestamp %d makes no sense", ts)
	}
	return at*1e9 + int64(ns), nil
}

// pcapngReader reads draft-ietf-opsawg-pcapng; blocks that it does not know
// are passed over.
type pcapngReader struct {
	r      *bufio.Reader
	order  binary.ByteOrder
	ifaces []ngInterface
	buf    []byte
	last   int64
}

// Block types.
const (
	ngSection   = 0x0a0d0d0a
	ngIface     = 1
	ngOldPacket = 2
	ngSimple    = 3
	ngEnhanced  = 6
	ngMagic     = 0x1a2b3c4d
	pcapMicro   = 0xa1b2c3d4
	pcapNano    = 0xa1b23c4d
)

func newPcapngReader(r *bufio.Reader) *pcapngReader {
	return &pcapngReader{r: r, order: binary.LittleEndian}
}

// block reads the next block's type and body.
func (p *pcapngReader) block() (typ uint32, body []byte, err error) {
	var h [12]byte
	if _, err := io.ReadFull(p.r, h[:8]); err != nil {
		if errors.Is(err, io.EOF) {
			return 0, nil, io.EOF
		}
		return 0, nil, cutOff(err)
	}
	head := 8
	if binary.LittleEndian.Uint32(h[:]) == ngSection {
		if _, err := io.ReadFull(p.r, h[8:]); err != nil {
			return 0, nil, cutOff(err)
		}
		head = 12
		switch {
		case binary.LittleEndian.Uint32(h[8:]) == ngMagic:
			p.order = binary.LittleEndian
		case binary.BigEndian.Uint32(h[8:]) == ngMagic:
			p.order = binary.BigEndian
		default:
			return 0, nil, errors.New("a section header without the byte-order magic")
		}
	}
	typ = p.order.Uint32(h[:])
	length := p.order.Uint32(h[4:])
	if length < uint32(head)+4 || length%4 != 0 || length > maxBlock {
		return 0, nil, fmt.Errorf("a block of %d bytes makes no sense", length)
	}
	p.buf = grow(p.buf, int(length)-head)
	if _, err := io.ReadFull(p.r, p.buf); err != nil {
		return 0, nil, cutOff(err)
	}
	return typ, p.buf[:len(p.buf)-4], nil
}

func (p *pcapngReader) next(pkt *packet) error {
	for {
		typ, b, err := p.block()
		if err != nil {
			return err
		}
		switch typ {
		case ngSection:
			p.ifaces = p.ifaces[:0]
		case ngIface:
			if err := p.addInterface(b); err != nil {
				return err
			}
		case ngEnhanced, ngOldPacket:
			return p.stamped(typ, b, pkt)
		case ngSimple:
			return p.simple(b, pkt)
		}
	}
}

func (p *pcapngReader) addInterface(b []byte) error {
	if len(b) < 8 {
		return errors.New("an interface description that is too short")
	}
	i := ngInterface{linkType: uint32(p.order.Uint16(b)), snapLen: p.order.Uint32(b[4:]), units: 1e6}
	for b = b[8:]; len(b) >= 4; {
		code, n := p.order.Uint16(b), int(p.order.Uint16(b[2:]))
		padded := 4 + (n+3)&^3
		if code == 0 || padded > len(b) {
			break
		}
		switch value := b[4 : 4+n]; {
		case code == 9 && n == 1 && value[0]&0x80 != 0: // if_tsresol, a power of 2
			i.units = 1 << min(value[0]&0x7f, 63)
		case code == 9 && n == 1:
			i.units = 1
			for range min(value[0], 19) {
				i.units *= 10
			}
		case code == 14 && n == 8: // if_tsoffset
			i.offset = int64(p.order.Uint64(value))
		}
		b = b[padded:]
	}
	p.ifaces = append(p.ifaces, i)
	return nil
}

// stamped is an enhanced packet block, or its predecessor.
func (p *pcapngReader) stamped(typ uint32, b []byte, pkt *packet) error {
	if len(b) < 20 {
		return errors.New("a packet block that is too short")
	}
	id := p.order.Uint32(b)
	if typ == ngOldPacket {
		id = uint32(p.order.Uint16(b))
	}
	if id >= uint32(len(p.ifaces)) {
		return fmt.Errorf("a packet of interface %d, of %d", id, len(p.ifaces))
	}
	t, err := p.ifaces[id].time(uint64(p.order.Uint32(b[4:]))<<32 | uint64(p.order.Uint32(b[8:])))
	if err != nil {
		return err
	}
	n := p.order.Uint32(b[12:])
	if n > uint32(len(b)-20) {
		return fmt.Errorf("a packet of %d bytes in a block of %d", n, len(b))
	}
	p.last = t
	*pkt = packet{t: t, linkType: p.ifaces[id].linkType, data: b[20 : 20+n], length: int(p.order.Uint32(b[16:]))}
	return nil
}

// simple is a simple packet block, which has no time: the last one's.
func (p *pcapngReader) simple(b []byte, pkt *packet) error {
	if len(b) < 4 || len(p.ifaces) == 0 {
		return errors.New("a simple packet block that makes no sense")
	}
	length := p.order.Uint32(b)
	n := min(length, uint32(len(b)-4))
	if s := p.ifaces[0].snapLen; s != 0 {
		n = min(n, s)
	}
	*pkt = packet{t: p.last, linkType: p.ifaces[0].linkType, data: b[4 : 4+n], length: int(length)}
	return nil
}

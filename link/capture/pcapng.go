package capture

import (
	"encoding/binary"
	"runtime"
	"time"

	"github.com/alptrace/alptrace/internal/flow"
	"github.com/alptrace/alptrace/link"
)

// The subset of pcapng (draft-ietf-opsawg-pcapng) that a capture takes.
const (
	blockSection   = 0x0a0d0d0a
	blockInterface = 1
	blockPacket    = 6 // Enhanced Packet Block
	byteOrder      = 0x1a2b3c4d

	optEnd         = 0
	optComment     = 1
	optHardware    = 2 // section
	optOS          = 3 // section
	optApplication = 4 // section
	optName        = 2 // interface
	optDescription = 3 // interface
	optMAC         = 6 // interface
	optResolution  = 9 // interface
	optFlags       = 2 // packet
	optDropCount   = 4 // packet

	linkEthernet = 1
	linkRaw      = 101 // an IPv4 or IPv6 packet

	inbound  direction = 1 // epb_flags, bits 0 and 1
	outbound direction = 2
)

// direction is which way a packet went, as epb_flags has it.
type direction uint32

var le = binary.LittleEndian

// appendBlock appends a block whose body begin makes.
func appendBlock(b []byte, typ uint32, body func([]byte) []byte) []byte {
	start := len(b)
	b = le.AppendUint32(b, typ)
	b = le.AppendUint32(b, 0)
	b = body(b)
	n := uint32(len(b) - start + 4)
	le.PutUint32(b[start+4:], n)
	return le.AppendUint32(b, n)
}

// appendOption appends an option with its padding, unless val is empty.
func appendOption[T string | []byte](b []byte, code uint16, val T) []byte {
	if len(val) == 0 {
		return b
	}
	if len(val) > 0xffff {
		val = val[:0xffff]
	}
	b = le.AppendUint16(b, code)
	b = le.AppendUint16(b, uint16(len(val)))
	b = append(b, val...)
	return pad(b, len(val))
}

// appendHeader appends the section header and the description of the link.
func appendHeader(b []byte, l link.Link, o *Options) []byte {
	b = appendBlock(b, blockSection, func(b []byte) []byte {
		b = le.AppendUint32(b, byteOrder)
		b = le.AppendUint16(b, 1) // version 1.0
		b = le.AppendUint16(b, 0)
		b = le.AppendUint64(b, ^uint64(0)) // length unknown
		b = appendOption(b, optHardware, runtime.GOARCH)
		b = appendOption(b, optOS, runtime.GOOS)
		b = appendOption(b, optApplication, "alptrace")
		b = appendOption(b, optComment, o.Comment)
		return le.AppendUint32(b, optEnd)
	})
	return appendBlock(b, blockInterface, func(b []byte) []byte {
		typ := uint16(linkRaw)
		if l.Medium() == link.Ethernet {
			typ = linkEthernet
		}
		b = le.AppendUint16(b, typ)
		b = le.AppendUint16(b, 0)
		b = le.AppendUint32(b, 0) // packets are whole
		b = appendOption(b, optName, l.Name())
		b = appendOption(b, optDescription, o.Description)
		if hw := l.HardwareAddr(); len(hw) == 6 {
			b = appendOption(b, optMAC, []byte(hw))
		}
		b = appendOption(b, optResolution, []byte{9}) // nanoseconds
		return le.AppendUint32(b, optEnd)
	})
}

// appendPacket appends an Enhanced Packet Block. The checksum that the packet
// leaves open is completed in the copy. lost is how many packets are missing
// before it.
func (c *Link) appendPacket(b []byte, p *link.Packet, at time.Time, d direction, lost uint64) []byte {
	n := p.Len()
	start, ts := len(b), uint64(at.UnixNano())
	b = le.AppendUint32(b, blockPacket)
	b = le.AppendUint32(b, 0) // the length
	b = le.AppendUint32(b, 0) // the interface
	b = le.AppendUint32(b, uint32(ts>>32))
	b = le.AppendUint32(b, uint32(ts))
	b = le.AppendUint32(b, uint32(n))
	b = le.AppendUint32(b, uint32(n))
	data := len(b)
	b = p.AppendTo(b)
	if p.NeedsCsum {
		o := p.Offload
		_ = link.Complete(b[data:], &o, c.medium) // a malformed packet is shown as it is
	}
	b = pad(b, n)
	if c.owners != nil {
		b = c.appendOwner(b, data, n, d)
	}
	b = le.AppendUint16(b, optFlags)
	b = le.AppendUint16(b, 4)
	b = le.AppendUint32(b, uint32(d))
	if lost > 0 {
		b = le.AppendUint16(b, optDropCount)
		b = le.AppendUint16(b, 8)
		b = le.AppendUint64(b, lost)
	}
	b = le.AppendUint32(b, optEnd)
	total := uint32(len(b) - start + 4)
	le.PutUint32(b[start+4:], total)
	return le.AppendUint32(b, total)
}

// appendOwner appends a comment with the owner of the packet that is the n bytes
// at data, if it is known. That of an ICMP error is who sent what it is about.
func (c *Link) appendOwner(b []byte, data, n int, d direction) []byte {
	p, ok := flow.Parse(b[data:data+n], c.medium)
	if !ok {
		return b
	}
	local := p.Flow
	if p.About.Src.IsValid() {
		local = p.About.Reverse()
	}
	if d == inbound {
		local = local.Reverse()
	}
	o, ok := c.owners.Lookup(local)
	if !ok {
		return b
	}
	b = le.AppendUint16(b, optComment)
	b = le.AppendUint16(b, 0)
	from := len(b)
	b = o.Append(b, local, d == outbound)
	le.PutUint16(b[from-2:], uint16(len(b)-from))
	return pad(b, len(b)-from)
}

// pad fills n bytes up to a multiple of 4.
func pad(b []byte, n int) []byte {
	for range -n & 3 {
		b = append(b, 0)
	}
	return b
}

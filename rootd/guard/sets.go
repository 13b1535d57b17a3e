package guard

import (
	"encoding/binary"
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/rootd/datapath"
)

// kind is a set: of ports of any address or of one, in IPv4 or IPv6.
type kind int

const (
	any4 kind = iota
	any6
	addr4
	addr6
	kinds
)

var setNames = [kinds]string{"any4", "any6", "addr4", "addr6"}

func kindNamed(name string) (kind, bool) {
	for k, n := range setNames {
		if n == name {
			return kind(k), true
		}
	}
	return 0, false
}

// guarded says whether the kernel would answer packets to the grant.
func guarded(g datapath.Grant) bool {
	return (g.Proto == unix.IPPROTO_TCP || g.Proto == unix.IPPROTO_UDP) && g.Addr.IsValid()
}

func kindOf(g datapath.Grant) kind {
	switch {
	case g.Addr == netip.IPv4Unspecified():
		return any4
	case g.Addr == netip.IPv6Unspecified():
		return any6
	case g.Addr.Is4():
		return addr4
	}
	return addr6
}

// addrLen is the length of the address in an element, bytes.
func (k kind) addrLen() int { return [kinds]int{0, 0, 4, 16}[k] }

func (k kind) v6() bool { return k == any6 || k == addr6 }

func (k kind) set(t *nftables.Table) *nftables.Set {
	types := []nftables.SetDatatype{nftables.TypeInetProto}
	switch k {
	case addr4:
		types = append(types, nftables.TypeIPAddr)
	case addr6:
		types = append(types, nftables.TypeIP6Addr)
	}
	types = append(types, nftables.TypeInetService)
	return &nftables.Set{Table: t, Name: setNames[k], Concatenation: true, KeyType: nftables.MustConcatSetType(types...)}
}

// key is the grant as an element: each field padded to 4 bytes.
func (k kind) key(g datapath.Grant) []byte {
	b := []byte{g.Proto, 0, 0, 0}
	if k.addrLen() > 0 {
		b = append(b, g.Addr.AsSlice()...)
	}
	return append(binary.BigEndian.AppendUint16(b, g.Port), 0, 0)
}

// grant is the opposite of key; false if the key is none.
func (k kind) grant(key []byte) (datapath.Grant, bool) {
	n := k.addrLen()
	if len(key) != 8+n {
		return datapath.Grant{}, false
	}
	g := datapath.Grant{Proto: key[0], Addr: netip.IPv4Unspecified(), Port: binary.BigEndian.Uint16(key[4+n:])}
	switch {
	case n > 0:
		g.Addr, _ = netip.AddrFromSlice(key[4 : 4+n])
	case k.v6():
		g.Addr = netip.IPv6Unspecified()
	}
	return g, true
}

// 32-bit registers of nftables (linux/netfilter/nf_tables.h): the fields of a
// concatenation lie one after the other in them.
const (
	reg1    = unix.NFT_REG_1    // 128 bits; its first 32 are reg32
	reg32_1 = unix.NFT_REG32_01 // the next 32
)

// rule is: meta nfproto F meta l4proto . [daddr .] th dport @set drop.
func (k kind) rule(s *nftables.Set) []expr.Any {
	family, daddr := byte(unix.NFPROTO_IPV4), uint32(16)
	if k.v6() {
		family, daddr = unix.NFPROTO_IPV6, 24
	}
	n := uint32(k.addrLen())
	exprs := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: reg1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: reg1, Data: []byte{family}},
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: reg1},
	}
	if n > 0 {
		exprs = append(exprs, &expr.Payload{DestRegister: reg32_1, Base: expr.PayloadBaseNetworkHeader, Offset: daddr, Len: n})
	}
	return append(exprs,
		&expr.Payload{DestRegister: reg32_1 + n/4, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Lookup{SourceRegister: reg1, SetName: s.Name, SetID: s.ID},
		&expr.Counter{},
		drop,
	)
}

// From a packet to the grants that it concerns.
#pragma once
#include "maps.h"

struct end {
	struct addr addr;
	be16 port;
};

enum fragment { WHOLE, FIRST, LATER };

// A packet. For TCP, UDP and echo, to is its destination and from its source.
// For an ICMP error the ends are those of the flow that the error is about, as
// that flow's owner sees it: to is where the quoted packet came from, which is
// whom the error informs; from is where the quoted packet was going.
struct packet {
	struct addr src, dst;
	struct end from, to;
	u32 len; // of the IP packet, bytes
	u32 l4;  // offset of the transport header
	be32 id;  // of the fragments
	be32 tos; // as bpf_fib_lookup wants it
	enum fragment frag;
	u8 v6;
	u8 ext;   // has IPv6 extension headers other than Fragment
	u8 last;  // the protocol after all IP headers
	u8 proto; // that of the grants: of the quoted packet in an error
	u8 error; // an ICMP error
	u8 pmtu;  // one that says a packet was too big
};

inline_always void from4(struct addr *a, be32 ip)
{
	a->w[0] = a->w[1] = 0;
	a->w[2] = htonl(0xffff);
	a->w[3] = ip;
}

inline_always void from6(struct addr *a, const be32 *ip)
{
	a->w[0] = ip[0];
	a->w[1] = ip[1];
	a->w[2] = ip[2];
	a->w[3] = ip[3];
}

inline_always int same(const struct addr *a, const struct addr *b)
{
	return a->w[0] == b->w[0] && a->w[1] == b->w[1] && a->w[2] == b->w[2] && a->w[3] == b->w[3];
}

inline_always int is_v4(const struct addr *a)
{
	return !a->w[0] && !a->w[1] && a->w[2] == htonl(0xffff);
}

// 127.0.0.0/8 and ::1.
inline_always int is_loopback(const struct addr *a)
{
	if (is_v4(a))
		return (a->w[3] & htonl(0xff000000)) == htonl(0x7f000000);
	return !a->w[0] && !a->w[1] && !a->w[2] && a->w[3] == htonl(1);
}

// Addresses that one packet must not be sent to: multicast, broadcast,
// reserved (RFC 1112, RFC 6890) and unspecified.
inline_always int is_group(const struct addr *a)
{
	if (is_v4(a))
		return (a->w[3] & htonl(0xff000000)) == 0 || (a->w[3] & htonl(0xe0000000)) == htonl(0xe0000000);
	return (a->w[0] & htonl(0xff000000)) == htonl(0xff000000) || (!a->w[0] && !a->w[1] && !a->w[2] && !a->w[3]);
}

inline_always int is_link_local6(const struct addr *a)
{
	return (a->w[0] & htonl(0xffc00000)) == htonl(0xfe800000);
}

inline_always int load(struct __sk_buff *skb, u32 off, void *to, u32 len)
{
	return bpf_skb_load_bytes_relative(skb, off, to, len, HDR_START_NET);
}

// fold makes the Internet checksum of a sum (RFC 1071).
inline_always u16 fold(long sum)
{
	u32 s = sum;
	s = (s & 0xffff) + (s >> 16);
	s = (s & 0xffff) + (s >> 16);
	return ~s;
}

inline_always int parse4(struct __sk_buff *skb, struct packet *p)
{
	struct ip4 h;
	if (load(skb, 0, &h, sizeof h))
		return -1;
	u32 ihl = (h.vihl & 15) * 4;
	if (h.vihl >> 4 != 4 || ihl < sizeof h)
		return -1;
	from4(&p->src, h.src);
	from4(&p->dst, h.dst);
	p->v6 = p->ext = 0;
	p->len = ntohs(h.len);
	p->tos = h.tos;
	p->last = h.proto;
	p->l4 = ihl;
	p->id = h.id;
	if (h.off & htons(IP_OFFSET))
		p->frag = LATER;
	else
		p->frag = h.off & htons(IP_MF) ? FIRST : WHOLE;
	return p->len < ihl ? -1 : 0;
}

// Extension headers are skipped: up to four, and one fragment header, after
// which there may be no other.
inline_always int parse6(struct __sk_buff *skb, struct packet *p)
{
	struct ip6 h;
	if (load(skb, 0, &h, sizeof h))
		return -1;
	if ((h.flow & htonl(0xf0000000)) != htonl(0x60000000))
		return -1;
	from6(&p->src, h.src);
	from6(&p->dst, h.dst);
	// Mapped addresses are for sockets, not for packets (RFC 6890 2.2.3):
	// here they would pass for IPv4.
	if (is_v4(&p->src) || is_v4(&p->dst))
		return -1;
	p->v6 = 1;
	p->ext = 0;
	p->len = ntohs(h.len) + sizeof h;
	p->tos = h.flow & htonl(0x0fffffff);
	p->last = h.next;
	p->l4 = sizeof h;
	p->frag = WHOLE;
	for (int i = 0; i < 4; i++) {
		u8 ext[2]; // next header, length
		if (p->last != HOPOPTS && p->last != DSTOPTS && p->last != ROUTING)
			break;
		if (load(skb, p->l4, ext, sizeof ext))
			return -1;
		p->ext = 1;
		p->last = ext[0];
		p->l4 += ext[1] * 8 + 8;
	}
	if (p->last == FRAGMENT) {
		struct frag6 f;
		if (load(skb, p->l4, &f, sizeof f))
			return -1;
		p->last = f.next;
		p->l4 += sizeof f;
		p->id = f.id;
		if (f.off & htons(0xfff8))
			p->frag = LATER;
		else
			p->frag = f.off & htons(1) ? FIRST : WHOLE;
	}
	return 0;
}

// The packet that an ICMP error quotes, at off. Only an echo request can be
// quoted back to its sender: its identifier is the port.
inline_always int parse_quote(struct __sk_buff *skb, struct packet *p, u32 off)
{
	be16 ports[4];
	if (p->v6) {
		struct ip6 h;
		if (load(skb, off, &h, sizeof h))
			return -1;
		from6(&p->to.addr, h.src);
		from6(&p->from.addr, h.dst);
		if (is_v4(&p->to.addr) || is_v4(&p->from.addr))
			return -1;
		p->proto = h.next;
		off += sizeof h;
		if (p->proto == FRAGMENT) {
			struct frag6 f;
			if (load(skb, off, &f, sizeof f) || f.off & htons(0xfff8))
				return -1;
			p->proto = f.next;
			off += sizeof f;
		}
	} else {
		struct ip4 h;
		if (load(skb, off, &h, sizeof h) || h.off & htons(IP_OFFSET))
			return -1;
		from4(&p->to.addr, h.src);
		from4(&p->from.addr, h.dst);
		p->proto = h.proto;
		off += (h.vihl & 15) * 4;
	}
	if (load(skb, off, ports, sizeof ports))
		return -1;
	if (p->proto == TCP || p->proto == UDP) {
		p->to.port = ports[0];
		p->from.port = ports[1];
		return 0;
	}
	if (p->proto != (p->v6 ? ICMPV6 : ICMP) || ports[0] != htons((p->v6 ? ICMP6_ECHO : ICMP_ECHO) << 8))
		return -1;
	p->to.port = ports[2];
	p->from.port = 0;
	return 0;
}

inline_always int parse_icmp(struct __sk_buff *skb, struct packet *p)
{
	struct icmp h;
	if (load(skb, p->l4, &h, sizeof h))
		return -1;
	if (p->v6) {
		p->error = h.type >= ICMP6_UNREACH && h.type <= ICMP6_PARAMPROB;
		p->pmtu = h.type == ICMP6_TOO_BIG;
	} else {
		p->error = h.type == ICMP_UNREACH || h.type == ICMP_TIMXCEED || h.type == ICMP_PARAMPROB;
		p->pmtu = h.type == ICMP_UNREACH && h.code == ICMP_UNREACH_NEEDFRAG;
	}
	if (p->error)
		return p->frag == WHOLE ? parse_quote(skb, p, p->l4 + sizeof h) : -1;
	if (h.type == (p->v6 ? ICMP6_ECHO : ICMP_ECHO))
		p->from.port = h.id;
	else if (h.type == (p->v6 ? ICMP6_ECHOREPLY : ICMP_ECHOREPLY))
		p->to.port = h.id;
	else
		return -1;
	return 0;
}

// parse_ports fills what the transport header says; -1 if the protocol is none
// that can be granted.
inline_always int parse_ports(struct __sk_buff *skb, struct packet *p)
{
	p->proto = p->last;
	p->error = p->pmtu = 0;
	p->from.addr = p->src;
	p->to.addr = p->dst;
	p->from.port = p->to.port = 0;
	if (p->frag == LATER)
		return 0;
	if (p->last == TCP || p->last == UDP) {
		be16 ports[2];
		if (load(skb, p->l4, ports, sizeof ports))
			return -1;
		p->from.port = ports[0];
		p->to.port = ports[1];
		return 0;
	}
	if (p->last == (p->v6 ? ICMPV6 : ICMP))
		return parse_icmp(skb, p);
	return -1;
}

inline_always int parse_ip(struct __sk_buff *skb, struct packet *p)
{
	if (skb->protocol == htons(ETH_P_IP))
		return parse4(skb, p);
	return parse6(skb, p);
}

inline_always int is_local(const struct addr *a)
{
	struct local *l = bpf_map_lookup_elem(&locals, a);
	return l && l->flags & LOCAL;
}

inline_always int is_granted(u8 proto, be16 port)
{
	u32 set = proto == TCP ? 0 : proto == UDP ? 1 : proto == ICMP ? 2 : 3;
	u32 bit = set << 16 | ntohs(port), word = bit / 64;
	u64 *w = bpf_map_lookup_elem(&ports, &word);
	return w && *w >> bit % 64 & 1;
}

// The grant of an end: of this very address, or of every address of the host.
inline_always struct grant *grant_of(u8 proto, const struct end *e)
{
	if (!is_granted(proto, e->port))
		return 0;
	struct grant_key k = {.proto = proto, .port = e->port, .addr = e->addr};
	struct grant *g = bpf_map_lookup_elem(&grants, &k);
	if (g)
		return g;
	k.addr.w[3] = 0;
	if (!is_v4(&e->addr))
		k.addr.w[0] = k.addr.w[1] = k.addr.w[2] = 0;
	g = bpf_map_lookup_elem(&grants, &k);
	if (g && (is_local(&e->addr) || is_loopback(&e->addr)))
		return g;
	return 0;
}

// The two directions of fragments are two entries: who sends, and who gets.
enum { SENDER = 0x100, RECEIVER = 0 };

inline_always void frag_key(struct frag_key *k, const struct packet *p, u32 origin, u32 dir)
{
	k->src = p->src;
	k->dst = p->dst;
	k->id = p->id;
	k->origin = origin;
	k->proto = p->last | dir;
}

// The grant to which a packet goes, or none.
inline_always int receiver(const struct packet *p, u32 origin, struct grant *out)
{
	struct grant *g;
	if (p->frag != WHOLE) {
		struct frag_key k;
		frag_key(&k, p, origin, RECEIVER);
		if (p->frag == LATER) {
			g = bpf_map_lookup_elem(&frags, &k);
			if (!g)
				return 0;
			*out = *g;
			return 1;
		}
		g = grant_of(p->proto, &p->to);
		if (!g)
			return 0;
		*out = *g;
		bpf_map_update_elem(&frags, &k, out, BPF_ANY);
		return 1;
	}
	g = grant_of(p->proto, &p->to);
	if (!g || (p->error && !same(&p->to.addr, &p->dst)))
		return 0;
	*out = *g;
	return 1;
}

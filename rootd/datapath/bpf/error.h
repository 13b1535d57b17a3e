// ICMP errors of this program's own, to a lease about a packet that it sent.
#pragma once
#include "parse.h"

// How much of the packet is quoted: all headers of any packet that tx accepts.
// A shorter packet is padded with zeros.
enum { QUOTE = 96 };

struct error4 {
	struct ip4 ip;
	struct icmp icmp;
	u8 quote[QUOTE];
};

struct error6 {
	struct ip6 ip;
	struct icmp icmp;
	u8 quote[QUOTE];
};

// What error* return if the packet could not be turned into the error.
enum { FAILED = TCX_DROP };

// error4 turns the packet at hand, whose first byte is its IP header, into an
// ICMP error about it, from and to its source, and sends it back (RFC 792).
noinline int error4(struct __sk_buff *skb, u8 kind, u8 code, u32 mtu)
{
	struct error4 e = {};
	if (bpf_skb_change_tail(skb, QUOTE, 0) || bpf_skb_load_bytes(skb, 0, e.quote, QUOTE))
		return FAILED;
	struct ip4 *q = (void *)e.quote;
	e.ip.vihl = 0x45;
	e.ip.len = htons(sizeof e);
	e.ip.off = htons(IP_DF);
	e.ip.ttl = 64;
	e.ip.proto = ICMP;
	e.ip.src = e.ip.dst = q->src;
	e.ip.csum = fold(bpf_csum_diff(0, 0, (void *)&e.ip, sizeof e.ip, 0));
	e.icmp.type = kind;
	e.icmp.code = code;
	e.icmp.info = htonl(mtu);
	e.icmp.csum = fold(bpf_csum_diff(0, 0, (void *)&e.icmp, sizeof e.icmp + QUOTE, 0));
	u32 n = sizeof e.ip + sizeof e.icmp;
	if (bpf_skb_adjust_room(skb, n, ADJ_ROOM_MAC, 0) || bpf_skb_store_bytes(skb, 0, &e, n, 0))
		return FAILED;
	return bpf_redirect(skb->ifindex, 0);
}

// error6 is error4 for IPv6 (RFC 4443).
noinline int error6(struct __sk_buff *skb, u8 kind, u8 code, u32 mtu)
{
	struct error6 e = {};
	struct { struct addr src, dst; be32 len, next; } pseudo = {};
	if (bpf_skb_change_tail(skb, QUOTE, 0) || bpf_skb_load_bytes(skb, 0, e.quote, QUOTE))
		return FAILED;
	struct ip6 *q = (void *)e.quote;
	e.ip.flow = htonl(0x60000000);
	e.ip.len = htons(sizeof e.icmp + QUOTE);
	e.ip.next = ICMPV6;
	e.ip.hops = 64;
	from6(&pseudo.src, q->src);
	from6(&pseudo.dst, q->src);
	__builtin_memcpy(e.ip.src, &pseudo.src, 16);
	__builtin_memcpy(e.ip.dst, &pseudo.src, 16);
	pseudo.len = htonl(sizeof e.icmp + QUOTE);
	pseudo.next = htonl(ICMPV6);
	e.icmp.type = kind;
	e.icmp.code = code;
	e.icmp.info = htonl(mtu);
	u32 sum = bpf_csum_diff(0, 0, (void *)&pseudo, sizeof pseudo, 0);
	e.icmp.csum = fold(bpf_csum_diff(0, 0, (void *)&e.icmp, sizeof e.icmp + QUOTE, sum));
	u32 n = sizeof e.ip + sizeof e.icmp;
	if (bpf_skb_adjust_room(skb, n, ADJ_ROOM_MAC, 0) || bpf_skb_store_bytes(skb, 0, &e, n, 0))
		return FAILED;
	return bpf_redirect(skb->ifindex, 0);
}

// answerable says whether an error may be sent about the packet: never about
// an error, nor about a fragment but the first (RFC 1122 3.2.2).
inline_always int answerable(const struct packet *p)
{
	return !p->error && p->frag != LATER;
}

inline_always int too_big(struct __sk_buff *skb, const struct packet *p, u32 mtu)
{
	if (!answerable(p))
		return TCX_DROP;
	if (p->v6)
		return error6(skb, ICMP6_TOO_BIG, 0, mtu);
	return error4(skb, ICMP_UNREACH, ICMP_UNREACH_NEEDFRAG, mtu);
}

inline_always int no_route(struct __sk_buff *skb, const struct packet *p)
{
	if (!answerable(p))
		return TCX_DROP;
	if (p->v6)
		return error6(skb, ICMP6_UNREACH, ICMP6_UNREACH_NOROUTE, 0);
	return error4(skb, ICMP_UNREACH, ICMP_UNREACH_NET, 0);
}

inline_always int prohibited(struct __sk_buff *skb, const struct packet *p)
{
	if (!answerable(p))
		return TCX_DROP;
	if (p->v6)
		return error6(skb, ICMP6_UNREACH, ICMP6_UNREACH_ADMIN, 0);
	return error4(skb, ICMP_UNREACH, ICMP_UNREACH_ADMIN, 0);
}

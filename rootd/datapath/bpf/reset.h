// The reset of a lease's TCP segment for which the kernel has no socket, where
// the kernel stays silent: what bpf_redirect_neigh sends over lo to an IPv4
// address of another device has a route that is not of the type local, and only
// to such does tcp_v4_send_reset answer without a socket. (Without that route
// the kernel would drop the packet for its local source.)
#pragma once
#include "parse.h"

struct tcp_reset {
	struct ip4 ip;
	struct tcp tcp;
};

// has_socket says whether the kernel has any socket for the segment that came in
// over lo: of the connection, in TIME-WAIT too, or listening.
inline_always int has_socket(struct __sk_buff *skb, const struct packet *p)
{
	struct tuple4 t = {.src = p->src.w[3], .dst = p->dst.w[3], .sport = p->from.port, .dport = p->to.port};
	void *sk = bpf_skc_lookup_tcp(skb, &t, sizeof t, CURRENT_NETNS, 0);
	if (!sk)
		return 0;
	bpf_sk_release(sk);
	return 1;
}

// answered fills in the reset that answers a segment to a closed port
// (RFC 9293 3.10.7.1); 0 if there is none.
inline_always int answered(struct __sk_buff *skb, const struct packet *p, struct tcp_reset *r)
{
	struct tcp s;
	if (load(skb, p->l4, &s, sizeof s) || s.flags & TCP_RST)
		return 0;
	u32 head = p->l4 + (s.off >> 4) * 4;
	if (head < p->l4 + sizeof s || head > p->len)
		return 0;
	r->tcp.sport = p->to.port;
	r->tcp.dport = p->from.port;
	r->tcp.off = sizeof s / 4 << 4;
	r->tcp.flags = TCP_RST;
	if (s.flags & TCP_ACK) {
		r->tcp.seq = s.ack;
	} else {
		u32 len = p->len - head + !!(s.flags & TCP_SYN) + !!(s.flags & TCP_FIN);
		r->tcp.ack = htonl(htonl(s.seq) + len);
		r->tcp.flags |= TCP_ACK;
	}
	r->ip.vihl = 0x45;
	r->ip.len = htons(sizeof *r);
	r->ip.off = htons(IP_DF);
	r->ip.ttl = 64;
	r->ip.proto = TCP;
	r->ip.src = p->dst.w[3];
	r->ip.dst = p->src.w[3];
	r->ip.csum = fold(bpf_csum_diff(0, 0, (void *)&r->ip, sizeof r->ip, 0));
	return 1;
}

// refuse turns the packet at hand, which came in over lo and has an Ethernet
// header, into the reset that answers it, if it is a lease's segment that the
// kernel would not answer; out is the grant to which the reset goes. It is 0 if
// the packet was left as it is, and negative if it is spoilt.
noinline int refuse(struct __sk_buff *skb, const struct packet *p, struct grant *out)
{
	struct tcp_reset r = {};
	struct { be32 src, dst; be16 proto, len; } pseudo;

	if (p->v6 || p->proto != TCP || p->last != TCP || p->frag != WHOLE || is_loopback(&p->dst))
		return 0;
	struct grant *g = grant_of(TCP, &p->from);
	if (!g)
		return 0;
	*out = *g;
	if (has_socket(skb, p) || !answered(skb, p, &r))
		return 0;
	pseudo.src = r.ip.src;
	pseudo.dst = r.ip.dst;
	pseudo.proto = htons(TCP);
	pseudo.len = htons(sizeof r.tcp);
	u32 sum = bpf_csum_diff(0, 0, (void *)&pseudo, sizeof pseudo, 0);
	// A checksum that is left to be filled in stays so: its place in the packet
	// does not change.
	if (read_ip_summed(bpf_cast_to_kern_ctx(skb)) == CHECKSUM_PARTIAL)
		r.tcp.csum = ~fold(sum);
	else
		r.tcp.csum = fold(bpf_csum_diff(0, 0, (void *)&r.tcp, sizeof r.tcp, sum));
	// Data, TCP options and segmentation go, then IP options.
	if (bpf_skb_change_tail(skb, ETH_HLEN + p->l4 + sizeof r.tcp, 0))
		return -1;
	if (p->l4 > sizeof r.ip && bpf_skb_adjust_room(skb, (int)sizeof r.ip - (int)p->l4, ADJ_ROOM_NET, 0))
		return -1;
	return bpf_skb_store_bytes(skb, ETH_HLEN, &r, sizeof r, 0) ? -1 : (int)sizeof r;
}

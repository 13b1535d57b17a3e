// The host's addresses, shared between its kernel and the stacks of leases.
//
// rx runs on ingress of every device of the host and of lo: a packet to a grant
// goes to the device of the lease that holds it, and the kernel never sees it.
// tx runs on what a lease writes to its device: a packet from a grant of that
// lease goes out as the kernel's routes say, anything else is dropped.
#include "error.h"
#include "reset.h"

char LICENSE[] SEC("license") = "GPL";

inline_always void count_rx(u32 ifindex, u32 len)
{
	struct counters *c = bpf_map_lookup_elem(&stats, &ifindex);
	if (!c)
		return;
	c->rx_packets++;
	c->rx_bytes += len;
}

inline_always void count_tx(struct counters *c, const struct packet *p)
{
	c->tx_packets++;
	c->tx_bytes += p->len;
}

inline_always int drop(struct counters *c, enum reason why)
{
	c->drops[why]++;
	return TCX_DROP;
}

SEC("tcx/ingress")
int rx(struct __sk_buff *skb)
{
	struct packet p = {};
	struct grant g;

	// For this host, untagged: a tagged frame comes again on its VLAN's device.
	if (skb->pkt_type != PACKET_HOST || skb->vlan_present)
		return TCX_NEXT;
	if (skb->protocol != htons(ETH_P_IP) && skb->protocol != htons(ETH_P_IPV6))
		return TCX_NEXT;
	if (parse_ip(skb, &p) || parse_ports(skb, &p))
		return TCX_NEXT;
	int lo = skb->ifindex == LOOPBACK_IFINDEX;
	if (!receiver(&p, lo ? LOOPBACK_IFINDEX : 0, &g)) {
		int n = lo ? refuse(skb, &p, &g) : 0;
		if (n <= 0)
			return n ? TCX_DROP : TCX_NEXT;
		count_rx(g.ifindex, n);
		return bpf_redirect(g.ifindex, 0);
	}
	// What the kernel drops as martian is left to it (RFC 1122 3.2.1.3).
	if (is_group(&p.src) || is_group(&p.dst))
		return TCX_NEXT;
	if (!lo && (is_loopback(&p.src) || is_loopback(&p.dst) || is_local(&p.src)))
		return TCX_NEXT;
	count_rx(g.ifindex, p.len);
	return bpf_redirect(g.ifindex, 0);
}

// sender says whether this device's lease may send the packet; if not, why.
inline_always int sender(struct __sk_buff *skb, const struct packet *p, u32 *flags, enum reason *why)
{
	struct frag_key k;
	struct grant *g;

	frag_key(&k, p, skb->ifindex, SENDER);
	if (p->frag == LATER) {
		*why = DROP_FRAGMENT;
		g = bpf_map_lookup_elem(&frags, &k);
	} else {
		*why = DROP_NOT_GRANTED;
		g = grant_of(p->proto, &p->from);
	}
	if (!g || g->ifindex != skb->ifindex)
		return 0;
	*flags = g->flags;
	if (p->error) {
		// About a packet of the flow, to where that came from. A host at
		// the end of a path says nothing of its MTU: it would be believed
		// for all traffic between the two hosts.
		if (p->pmtu || !same(&p->from.addr, &p->src) || !same(&p->to.addr, &p->dst))
			return 0;
	}
	if (p->frag == FIRST) {
		struct grant v = *g;
		bpf_map_update_elem(&frags, &k, &v, BPF_ANY);
	}
	return 1;
}

// segment is the length of the packet, or of the largest into which it is cut.
inline_always u32 segment(struct __sk_buff *skb, const struct packet *p)
{
	u8 off;
	if (!skb->gso_size)
		return skb->len;
	if (p->last != TCP)
		return p->l4 + 8 + skb->gso_size;
	if (load(skb, p->l4 + 12, &off, 1))
		return skb->len;
	return p->l4 + (off >> 4) * 4 + skb->gso_size;
}

// checksum_ok says whether a checksum that is left to be filled in is where the
// transport header has it. It is filled in after this program, and anywhere else
// it could make another source address or port.
inline_always int checksum_ok(struct __sk_buff *skb, const struct packet *p)
{
	struct sk_buff *k = bpf_cast_to_kern_ctx(skb);
	if (read_ip_summed(k) != CHECKSUM_PARTIAL)
		return 1;
	if (p->frag != WHOLE || (u16)(k->csum_start - k->network_header) != p->l4)
		return 0;
	return (p->last == TCP && k->csum_offset == 16) || (p->last == UDP && k->csum_offset == 6);
}

inline_always int allowed(u32 lease, const struct addr *dst)
{
	struct reach_key k = {.bits = 160, .lease = lease, .addr = *dst};
	return bpf_map_lookup_elem(&reach, &k) != 0;
}

// redirect_neigh takes the Ethernet header off that a TUN's packet has not.
inline_always int neigh(struct __sk_buff *skb, const struct packet *p, struct counters *c, u32 ifindex)
{
	if (bpf_skb_change_head(skb, ETH_HLEN, 0))
		return drop(c, DROP_INTERNAL);
	count_tx(c, p);
	return bpf_redirect_neigh(ifindex, 0, 0, 0);
}

inline_always int route(struct __sk_buff *skb, const struct packet *p, struct counters *c)
{
	u32 zero = 0;
	struct config *cfg = bpf_map_lookup_elem(&settings, &zero);
	if (!cfg)
		return drop(c, DROP_INTERNAL);
	if (p->v6 && is_link_local6(&p->dst)) {
		// The zone is that of the source.
		struct local *l = bpf_map_lookup_elem(&locals, &p->src);
		if (l && is_link_local6(&p->src))
			return neigh(skb, p, c, l->ifindex);
	}
	struct bpf_fib_lookup f = {
		.family = p->v6 ? AF_INET6 : AF_INET,
		.l4_protocol = p->last,
		.sport = p->from.port,
		.dport = p->to.port,
		.ifindex = cfg->fib_ifindex,
		.tos = p->tos,
	};
	u32 len = segment(skb, p);
	if (len > 0xffff)
		return drop(c, DROP_TOO_BIG);
	f.tot_len = len;
	if (p->v6) {
		__builtin_memcpy(f.src, &p->src, 16);
		__builtin_memcpy(f.dst, &p->dst, 16);
	} else {
		f.src[0] = p->src.w[3];
		f.dst[0] = p->dst.w[3];
	}
	switch (bpf_fib_lookup(skb, &f, sizeof f, FIB_SKIP_NEIGH)) {
	case FIB_SUCCESS:
		return neigh(skb, p, c, f.ifindex);
	case FIB_FRAG_NEEDED:
		drop(c, DROP_TOO_BIG);
		return too_big(skb, p, f.tot_len);
	case FIB_PROHIBIT:
		drop(c, DROP_NO_ROUTE);
		return prohibited(skb, p);
	case FIB_BLACKHOLE:
		return drop(c, DROP_NO_ROUTE);
	case FIB_UNREACHABLE:
	case FIB_NOT_FWDED:
		drop(c, DROP_NO_ROUTE);
		return no_route(skb, p);
	}
	return drop(c, DROP_INTERNAL);
}

SEC("tcx/ingress")
int tx(struct __sk_buff *skb)
{
	u32 self = skb->ifindex, flags = 0;
	struct packet p = {};
	struct grant g;
	enum reason why;

	struct counters *c = bpf_map_lookup_elem(&stats, &self);
	if (!c)
		return TCX_DROP;
	if (skb->protocol != htons(ETH_P_IP) && skb->protocol != htons(ETH_P_IPV6))
		return drop(c, DROP_NOT_IP);
	if (parse_ip(skb, &p) || p.len != skb->len)
		return drop(c, DROP_MALFORMED);
	if (p.ext || parse_ports(skb, &p))
		return drop(c, DROP_PROTOCOL);
	if (!checksum_ok(skb, &p))
		return drop(c, DROP_MALFORMED);
	if (!sender(skb, &p, &flags, &why))
		return drop(c, why);
	if (is_group(&p.dst))
		return drop(c, DROP_MULTICAST);
	int loop = is_loopback(&p.dst);
	struct local *l = bpf_map_lookup_elem(&locals, &p.dst);
	if (l && l->flags & BROADCAST)
		return drop(c, DROP_MULTICAST);
	int here = loop || l;
	if (is_loopback(&p.src)) {
		if (!here)
			return drop(c, DROP_LOOPBACK);
	} else if (!is_local(&p.src)) {
		return drop(c, DROP_NOT_LOCAL);
	}
	if (flags & RESTRICTED && !loop) {
		u32 *lease = bpf_map_lookup_elem(&leases, &self);
		if (!lease)
			return drop(c, DROP_INTERNAL);
		if (!allowed(*lease, &p.dst)) {
			drop(c, DROP_FORBIDDEN);
			return prohibited(skb, &p);
		}
	}
	if (!here)
		return route(skb, &p, c);
	// To another stack of this host, or the same.
	if (receiver(&p, self, &g)) {
		count_tx(c, &p);
		count_rx(g.ifindex, p.len);
		return bpf_redirect(g.ifindex, 0);
	}
	return neigh(skb, &p, c, LOOPBACK_IFINDEX);
}

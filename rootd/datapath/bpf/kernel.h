// The part of the kernel's BPF interface that the programs use: types from
// include/uapi/linux/bpf.h and the network headers, helpers by number. Written
// out so that the objects depend on no header of the machine that builds them.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef u16 be16;
typedef u32 be32;

#define SEC(name) __attribute__((section(name), used))
#define inline_always static inline __attribute__((always_inline))
#define noinline static __attribute__((noinline))

#define htons(x) ((be16)__builtin_bswap16(x))
#define htonl(x) ((be32)__builtin_bswap32(x))
#define ntohs(x) __builtin_bswap16(x)

// Map definitions, as BTF carries them.
#define uint(name, val) int(*name)[val]
#define type(name, val) typeof(val) *name
enum map_type { HASH = 1, ARRAY = 2, PERCPU_HASH = 5, LRU_HASH = 9, LPM_TRIE = 11 };
enum { BPF_ANY = 0, NO_PREALLOC = 1 };

// Verdicts of a TCX program.
enum { TCX_NEXT = -1, TCX_DROP = 2 };

// struct __sk_buff, to the last field used here.
struct __sk_buff {
	u32 len, pkt_type, mark, queue_mapping, protocol;
	u32 vlan_present, vlan_tci, vlan_proto, priority;
	u32 ingress_ifindex, ifindex, tc_index, cb[5], hash, tc_classid;
	u32 data, data_end, napi_id, family, remote_ip4, local_ip4;
	u32 remote_ip6[4], local_ip6[4], remote_port, local_port, data_meta;
	u64 flow_keys, tstamp;
	u32 wire_len, gso_segs;
	u64 sk;
	u32 gso_size;
};

struct bpf_fib_lookup {
	u8 family, l4_protocol;
	be16 sport, dport;
	u16 tot_len; // in: length of the packet; out: MTU
	u32 ifindex; // in: the device it comes in on; out: the one it leaves by
	be32 tos;    // IPv4: the first byte; IPv6: flow information
	be32 src[4], dst[4];
	u32 tbid;
	u8 smac[6], dmac[6];
};
enum { FIB_SKIP_NEIGH = 4 };
enum { FIB_SUCCESS, FIB_BLACKHOLE, FIB_UNREACHABLE, FIB_PROHIBIT, FIB_NOT_FWDED, FIB_FWD_DISABLED, FIB_UNSUPP_LWT, FIB_NO_NEIGH, FIB_FRAG_NEEDED };

// struct bpf_sock_tuple of IPv4; the source is the remote end.
struct tuple4 {
	be32 src, dst;
	be16 sport, dport;
};
#define CURRENT_NETNS ((u64)-1)

// The fields used of the kernel's own struct sk_buff, wherever they are in this
// kernel's (CO-RE).
struct sk_buff {
	u8 ip_summed : 2;
	u16 csum_start, csum_offset; // of CHECKSUM_PARTIAL; the first from the buffer's head
	u16 network_header;          // from the buffer's head
} __attribute__((preserve_access_index));
enum { CHECKSUM_PARTIAL = 3 };

// A bit field, of a kernel that may have it elsewhere: as libbpf's
// BPF_CORE_READ_BITFIELD.
inline_always u32 read_ip_summed(struct sk_buff *k)
{
	const void *p = (const void *)k + __builtin_preserve_field_info(k->ip_summed, 0 /* byte offset */);
	u64 v;
	switch (__builtin_preserve_field_info(k->ip_summed, 1 /* byte size */)) {
	case 1: v = *(const u8 *)p; break;
	case 2: v = *(const u16 *)p; break;
	case 4: v = *(const u32 *)p; break;
	default: v = *(const u64 *)p;
	}
	v <<= __builtin_preserve_field_info(k->ip_summed, 4 /* left shift */);
	return v >> __builtin_preserve_field_info(k->ip_summed, 5 /* right shift */);
}

extern void *bpf_cast_to_kern_ctx(void *ctx) __attribute__((section(".ksyms")));

static void *(*bpf_map_lookup_elem)(void *map, const void *key) = (void *)1;
static long (*bpf_map_update_elem)(void *map, const void *key, const void *val, u64 flags) = (void *)2;
static long (*bpf_skb_store_bytes)(struct __sk_buff *skb, u32 off, const void *from, u32 len, u64 flags) = (void *)9;
static long (*bpf_redirect)(u32 ifindex, u64 flags) = (void *)23;
static long (*bpf_skb_load_bytes)(const struct __sk_buff *skb, u32 off, void *to, u32 len) = (void *)26;
static long (*bpf_csum_diff)(be32 *from, u32 from_len, be32 *to, u32 to_len, u32 seed) = (void *)28;
static long (*bpf_skb_change_tail)(struct __sk_buff *skb, u32 len, u64 flags) = (void *)38;
static long (*bpf_skb_change_head)(struct __sk_buff *skb, u32 len, u64 flags) = (void *)43;
static long (*bpf_skb_adjust_room)(struct __sk_buff *skb, int diff, u32 mode, u64 flags) = (void *)50;
static long (*bpf_skb_load_bytes_relative)(const struct __sk_buff *skb, u32 off, void *to, u32 len, u32 start) = (void *)68;
static long (*bpf_fib_lookup)(void *ctx, struct bpf_fib_lookup *p, int len, u32 flags) = (void *)69;
static void (*bpf_sk_release)(void *sk) = (void *)86;
static void *(*bpf_skc_lookup_tcp)(void *ctx, struct tuple4 *t, u32 len, u64 netns, u64 flags) = (void *)99;
static long (*bpf_redirect_neigh)(u32 ifindex, void *nexthop, int len, u64 flags) = (void *)152;
enum { HDR_START_NET = 1, ADJ_ROOM_NET = 0, ADJ_ROOM_MAC = 1 };

// Link layer.
enum { ETH_HLEN = 14, ETH_P_IP = 0x0800, ETH_P_IPV6 = 0x86dd, PACKET_HOST = 0, LOOPBACK_IFINDEX = 1 };

// Network and transport layer.
enum { AF_INET = 2, AF_INET6 = 10 };
enum { ICMP = 1, TCP = 6, UDP = 17, ROUTING = 43, FRAGMENT = 44, ICMPV6 = 58, HOPOPTS = 0, DSTOPTS = 60 };
enum { IP_DF = 0x4000, IP_MF = 0x2000, IP_OFFSET = 0x1fff };
enum {
	ICMP_ECHOREPLY = 0, ICMP_UNREACH = 3, ICMP_ECHO = 8, ICMP_TIMXCEED = 11, ICMP_PARAMPROB = 12,
	ICMP_UNREACH_NET = 0, ICMP_UNREACH_NEEDFRAG = 4, ICMP_UNREACH_ADMIN = 13,
};
enum {
	ICMP6_UNREACH = 1, ICMP6_TOO_BIG = 2, ICMP6_TIMXCEED = 3, ICMP6_PARAMPROB = 4, ICMP6_ECHO = 128, ICMP6_ECHOREPLY = 129,
	ICMP6_UNREACH_NOROUTE = 0, ICMP6_UNREACH_ADMIN = 1,
};

struct ip4 {
	u8 vihl, tos;
	be16 len, id, off;
	u8 ttl, proto;
	u16 csum;
	be32 src, dst;
};

struct ip6 {
	be32 flow; // version, traffic class, flow label
	be16 len;  // without this header
	u8 next, hops;
	be32 src[4], dst[4];
};

struct frag6 {
	u8 next, zero;
	be16 off; // in units of 8 bytes, shifted by 3; lowest bit: more
	be32 id;
};

struct icmp {
	u8 type, code;
	u16 csum;
	union {
		be32 info;
		struct { be16 id, seq; };
	};
};

struct tcp {
	be16 sport, dport;
	be32 seq, ack;
	u8 off, flags; // the first: header length in the upper half, units of 4 bytes
	be16 window;
	u16 csum;
	be16 urgent;
};
enum { TCP_FIN = 1, TCP_SYN = 2, TCP_RST = 4, TCP_ACK = 16 };

// What the programs share with rootd. rootd writes all maps but frags and the
// counters; the programs only read.
#pragma once
#include "kernel.h"

// An address of either family; IPv4 as ::ffff:a.b.c.d.
struct addr {
	be32 w[4];
};

// A grant: the right of a lease to a protocol, local address and port. The
// unspecified address of a family is every address of this host in it.
struct grant_key {
	u8 proto, zero;
	be16 port;
	struct addr addr;
};

struct grant {
	u32 ifindex; // the lease's device
	u32 lease;
	u32 flags;
};
enum { RESTRICTED = 1 }; // sends only to what is in the map reach

// An address of this host.
struct local {
	u32 flags;
	u32 ifindex; // where it is configured
};
enum { LOCAL = 1, BROADCAST = 2 };

// Who got the first fragment of a packet gets, or sent, the others.
struct frag_key {
	struct addr src, dst;
	be32 id;
	u32 origin; // what sent it: a lease's device, lo, or 0 for the network
	u32 proto;
};

// Reasons of drops, indices of counters.drops.
enum reason {
	DROP_NOT_IP,
	DROP_MALFORMED,
	DROP_PROTOCOL,
	DROP_NOT_GRANTED,
	DROP_NOT_LOCAL,
	DROP_FRAGMENT,
	DROP_MULTICAST,
	DROP_LOOPBACK,
	DROP_FORBIDDEN,
	DROP_NO_ROUTE,
	DROP_TOO_BIG,
	DROP_INTERNAL,
	DROPS = 16
};

struct counters {
	u64 rx_packets, rx_bytes, tx_packets, tx_bytes;
	u64 drops[DROPS];
};

// What a restricted lease may send to.
struct reach_key {
	u32 bits; // 32 for the lease, and the prefix length
	u32 lease;
	struct addr addr;
};

struct config {
	u32 fib_ifindex; // the device from which routes are looked up
};

struct {
	uint(type, HASH);
	uint(max_entries, 131072);
	uint(map_flags, NO_PREALLOC);
	type(key, struct grant_key);
	type(value, struct grant);
} grants SEC(".maps");

// A bit for each port of each of the four protocols, set if there is a grant of
// it: most packets of the kernel's need no look into the hash map.
enum { PORT_WORDS = 4 * 65536 / 64 };

struct {
	uint(type, ARRAY);
	uint(max_entries, PORT_WORDS);
	type(key, u32);
	type(value, u64);
} ports SEC(".maps");

struct {
	uint(type, HASH);
	uint(max_entries, 16384);
	uint(map_flags, NO_PREALLOC);
	type(key, struct addr);
	type(value, struct local);
} locals SEC(".maps");

struct {
	uint(type, LRU_HASH);
	uint(max_entries, 16384);
	type(key, struct frag_key);
	type(value, struct grant);
} frags SEC(".maps");

// By the index of a lease's device.
struct {
	uint(type, PERCPU_HASH);
	uint(max_entries, 8192);
	uint(map_flags, NO_PREALLOC);
	type(key, u32);
	type(value, struct counters);
} stats SEC(".maps");

struct {
	uint(type, LPM_TRIE);
	uint(max_entries, 65536);
	uint(map_flags, NO_PREALLOC);
	type(key, struct reach_key);
	type(value, u32);
} reach SEC(".maps");

// Device to lease; a restarted rootd finds its leases here.
struct {
	uint(type, HASH);
	uint(max_entries, 8192);
	uint(map_flags, NO_PREALLOC);
	type(key, u32);
	type(value, u32);
} leases SEC(".maps");

struct {
	uint(type, ARRAY);
	uint(max_entries, 1);
	type(key, u32);
	type(value, struct config);
} settings SEC(".maps");

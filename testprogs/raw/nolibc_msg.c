/*
 * nolibc_msg: the calls whose structures the kernel reads itself, with the
 * layout of whatever architecture this is built for.
 */
#include "nolibc.h"
#include <linux/time_types.h>
#include <linux/uio.h>

#define SOL_SOCKET_ 1

struct msg {
	void *name;
	int namelen;
	struct iovec *iov;
	unsigned long iovlen;
	void *control;
	unsigned long controllen;
	unsigned int flags;
};

struct mmsg {
	struct msg hdr;
	unsigned int len;
};

struct control {
	unsigned long len;
	int level, type, value;
	int pad[9];
};

static char b1[8], b2[8];

/* two gives a message of two parts. */
static struct msg two(struct iovec v[2], void *name, int namelen)
{
	v[0] = (struct iovec){b1, 3};
	v[1] = (struct iovec){b2, sizeof b2};
	return (struct msg){.name = name, .namelen = namelen, .iov = v, .iovlen = 2};
}

static void fill(void)
{
	memcpy(b1, "abc", 3);
	memcpy(b2, "defgh", 5);
}

static void datagrams(void)
{
	struct sockaddr_in a = at(7903), from;
	struct iovec v[2], w[3][2];
	struct control k;
	struct mmsg many[3];
	int one = 1, n;

	long u = fd("socket", SYS(__NR_socket, AF_INET, SOCK_DGRAM, 0)), s = fd("socket", SYS(__NR_socket, AF_INET, SOCK_DGRAM, 0));
	line("bind", SYS(__NR_bind, u, &a, sizeof a));
	line("IP_RECVTTL", SYS(__NR_setsockopt, u, 0, IP_RECVTTL, &one, sizeof one));
	struct msg m = two(v, &a, sizeof a);
	fill();
	memset(&k, 0, sizeof k);
	k.len = 2 * sizeof(int) + sizeof(long) + sizeof(int);
	k.type = IP_TTL;
	k.value = 7;
	m.control = &k;
	m.controllen = k.len;
	line("sendmsg", SYS(__NR_sendmsg, s, &m, 0));
	memset(b1, 0, sizeof b1);
	memset(b2, 0, sizeof b2);
	memset(&k, 0, sizeof k);
	m = two(v, &from, sizeof from);
	m.control = &k;
	m.controllen = sizeof k;
	line("recvmsg", SYS(__NR_recvmsg, u, &m, 0));
	line("parts", b1[0] * 10000 + b1[2] * 100 + b2[7]);
	line("namelen", m.namelen);
	line("family", from.sin_family);
	line("control beyond one header", (long)(m.controllen - sizeof(long) - 2 * sizeof(int)) >= 4);
	line("cmsg data", k.len - sizeof(long) - 2 * sizeof(int));
	line("cmsg type", k.type);
	line("TTL", k.value);
	line("flags", m.flags);
	k.len = 3;
	m = two(v, &a, sizeof a);
	m.control = &k;
	m.controllen = sizeof k;
	line("a malformed cmsg", SYS(__NR_sendmsg, s, &m, 0));
	m.iovlen = 1025;
	line("too many parts", SYS(__NR_sendmsg, s, &m, 0));
	m.iovlen = 2;
	v[1].iov_len = -1ul;
	line("a negative part", SYS(__NR_sendmsg, s, &m, 0));

	for (n = 0; n < 3; n++)
		many[n] = (struct mmsg){.hdr = two(w[n], &a, sizeof a)};
	line("sendmmsg", SYS(__NR_sendmmsg, s, many, 3, 0));
	line("length of the third", many[2].len);
	for (n = 0; n < 3; n++)
		many[n] = (struct mmsg){.hdr = two(w[n], &from, sizeof from)};
	line("recvmmsg", SYS(__NR_recvmmsg, u, many, 2, 0, 0));
	line("length of the second", many[1].len);
	line("its namelen", many[1].hdr.namelen);
	struct { long sec, nsec; } ts = {5, 0};
	line("recvmmsg with a time", SYS(__NR_recvmmsg, u, many, 1, 0, &ts));
	ts.nsec = -1;
	line("recvmmsg with a wrong time", SYS(__NR_recvmmsg, u, many, 1, 0, &ts));
#ifdef __NR_recvmmsg_time64
	struct __kernel_timespec ts64 = {5, 0x500000001}; /* the upper half is padding */
	for (n = 0; n < 2; n++)
		many[n] = (struct mmsg){.hdr = two(w[n], &a, sizeof a)};
	line("sendmmsg", SYS(__NR_sendmmsg, s, many, 2, 0));
	line("recvmmsg_time64", SYS(__NR_recvmmsg_time64, u, many, 2, 0, &ts64));
	ts64.tv_nsec = 1000000000;
	line("recvmmsg_time64 with a wrong time", SYS(__NR_recvmmsg_time64, u, many, 1, 0, &ts64));
#endif
}

static void options(void)
{
	struct { long sec, usec; } tv = {0, 20000}, got = {9, 9};
	struct { int len; void *buf; } conf = {0, 0};
	int len = sizeof got;
	char b[4];

	long u = fd("socket", SYS(__NR_socket, AF_INET, SOCK_DGRAM, 0));
	line("SO_RCVTIMEO", SYS(__NR_setsockopt, u, SOL_SOCKET_, 20, &tv, sizeof tv));
	line("getsockopt", SYS(__NR_getsockopt, u, SOL_SOCKET_, 20, &got, &len));
	line("its length is that of the struct", len == sizeof got);
	line("seconds", got.sec);
	line("microseconds", got.usec);
	line("recv in time", SYS(__NR_recvfrom, u, b, sizeof b, 0, 0, 0));
	line("peek in time", SYS(__NR_recvfrom, u, b, sizeof b, 0x22, 0, 0));
	tv.usec = 1000000;
	line("a wrong time", SYS(__NR_setsockopt, u, SOL_SOCKET_, 20, &tv, sizeof tv));
	line("one that is short", SYS(__NR_setsockopt, u, SOL_SOCKET_, 20, &tv, sizeof tv - 1));
	line("SIOCGIFCONF", SYS(__NR_ioctl, u, 0x8912, &conf));
	line("an entry is an ifreq", conf.len > 0 && conf.len % (16 + 8 + 2 * (int)sizeof(long)) == 0);
}

static void unix_(void)
{
	struct iovec v[2];
	int p[2];

	line("socketpair", SYS(__NR_socketpair, 1, SOCK_STREAM, 0, p));
	struct msg m = two(v, 0, 0);
	fill();
	line("sendmsg", SYS(__NR_sendmsg, p[0], &m, 0));
	line("recvmsg", SYS(__NR_recvmsg, p[1], &m, 0));
	line("getpeername", SYS(__NR_getpeername, p[1], 0, 0));
	line("netlink", SYS(__NR_socket, 16, 3, 0) >= 0);
}

int main(void)
{
	lifetime();
	datagrams();
	options();
	unix_();
	return 0;
}

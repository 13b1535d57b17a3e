/* wild_ptrs: addresses that point nowhere, or to memory that may not be written, in every call. */
#include "common.h"

#define BAD ((void *)8)

static void *edge;	/* the last 8 bytes of a page with nothing behind */
static void *readonly;	/* a page that may not be written */

static void run(int family, int type)
{
	struct addr a = loop(family, 0), to;
	socklen_t n;
	char b[64];
	int v = 1, p[2];

	say("-- %s %s", family == AF_INET ? "IPv4" : "IPv6", type == SOCK_STREAM ? "TCP" : "UDP");
	int s = must(socket(family, type, 0));
	T(bind(s, BAD, a.len));
	T(bind(s, NULL, a.len));
	T(bind(s, edge, a.len));
	T(connect(s, BAD, a.len));
	T(connect(s, edge, a.len));
	T(connect(s, BAD, 0));
	must(bind(s, &a.sa, a.len));
	n = sizeof a.ss;
	T(getsockname(s, BAD, &n));
	T(getsockname(s, NULL, &n));
	T(getsockname(s, &a.sa, BAD));
	T(getsockname(s, &a.sa, NULL));
	T(getsockname(s, readonly, &n));
	T(getsockname(s, edge, &n));
	n = 8;
	T(getsockname(s, edge, &n));
	T(getpeername(s, BAD, &n));
	T(setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, BAD, 4));
	T(setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, edge, 16));
	T(setsockopt(s, SOL_SOCKET, SO_BINDTODEVICE, BAD, 4));
	n = 4;
	T(getsockopt(s, SOL_SOCKET, SO_KEEPALIVE, BAD, &n));
	T(getsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &v, BAD));
	T(getsockopt(s, SOL_SOCKET, SO_KEEPALIVE, readonly, &n));
	T(getsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &v, readonly));
	T(getsockopt(s, SOL_SOCKET, SO_ERROR, BAD, &n));
	T(setsockopt(s, family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6, family == AF_INET ? IP_TTL : IPV6_UNICAST_HOPS, BAD, 4));
	T(ioctl(s, FIONREAD, BAD));
	T(ioctl(s, FIONBIO, BAD));
	T(ioctl(s, TIOCOUTQ, BAD));
	T(ioctl(s, 0x8905 /* SIOCATMARK */, BAD));
	T(ioctl(s, 0x8912 /* SIOCGIFCONF */, BAD));
	T(ioctl(s, 0x8913 /* SIOCGIFFLAGS */, BAD));

	if (type == SOCK_STREAM) {
		must(listen(s, 8));
		nonblock(s, 1);
		T(accept(s, BAD, &n));
		dial(s);
		dial(s);
		await(s, POLLIN);
		msleep(10);
		n = sizeof a.ss;
		T(accept(s, BAD, &n));
		n = sizeof a.ss;
		T(accept(s, &a.sa, BAD));
		T(accept(s, NULL, NULL));
		tcp_pair(family, p);
	} else {
		p[1] = s;
		p[0] = must(socket(family, type, 0));
		to = local(s);
		T(sendto(p[0], "x", 1, 0, BAD, to.len));
		T(sendto(p[0], "x", 1, 0, edge, to.len));
		T(sendto(p[0], BAD, 1, 0, &to.sa, to.len));
		T(sendto(p[0], BAD, 0, 0, &to.sa, to.len));
		must(connect(p[0], &to.sa, to.len));
		await(p[1], POLLIN);
		T(recv(p[1], b, sizeof b, MSG_DONTWAIT));
	}
	say("-- data");
	T(send(p[0], BAD, 1, 0));
	T(write(p[0], BAD, 1));
	T(send(p[0], BAD, 0, 0));
	T(send(p[0], edge, 16, 0));
	must(send(p[0], "abc", 3, 0));
	await(p[1], POLLIN);
	msleep(10);
	if (type == SOCK_DGRAM) {
		/* what the empty send above has left */
		T(recv(p[1], b, sizeof b, 0));
	} else {
		T(recv(p[1], b, 8, MSG_DONTWAIT | MSG_PEEK) >= 3);
		while (recv(p[1], b, sizeof b, MSG_DONTWAIT) > 0)
			;
		must(send(p[0], "abc", 3, 0));
		await(p[1], POLLIN);
	}
	T(recv(p[1], BAD, 3, MSG_PEEK));
	T(recv(p[1], BAD, 3, 0));
	nonblock(p[1], 1);
	T(read(p[1], readonly, 3));
	must(send(p[0], "def", 3, 0));
	await(p[1], POLLIN);
	n = sizeof a.ss;
	T(recvfrom(p[1], b, 3, 0, BAD, &n));
	must(send(p[0], "ghi", 3, 0));
	await(p[1], POLLIN);
	T(recvfrom(p[1], b, 3, 0, &a.sa, BAD));
	while (recv(p[1], b, sizeof b, MSG_DONTWAIT) > 0)
		;

	say("-- message headers");
	struct iovec good = {"jkl", 3}, wild = {BAD, 3};
	struct msghdr m = {.msg_iov = &good, .msg_iovlen = 1};
	T(sendmsg(p[0], BAD, 0));
	T(sendmsg(p[0], edge, 0));
	T(recvmsg(p[1], BAD, 0));
	m.msg_iov = BAD;
	T(sendmsg(p[0], &m, 0));
	T(recvmsg(p[1], &m, MSG_DONTWAIT));
	m.msg_iov = &wild;
	T(sendmsg(p[0], &m, 0));
	must(send(p[0], "mno", 3, 0));
	await(p[1], POLLIN);
	T(recvmsg(p[1], &m, MSG_DONTWAIT));
	while (recv(p[1], b, sizeof b, MSG_DONTWAIT) > 0)
		;
	m.msg_iov = &good;
	m.msg_control = BAD;
	m.msg_controllen = 64;
	T(sendmsg(p[0], &m, 0));
	m.msg_control = NULL;
	m.msg_controllen = 0;
	m.msg_name = BAD;
	m.msg_namelen = 16;
	T(sendmsg(p[0], &m, 0));
	T(sendmmsg(p[0], BAD, 1, 0));
	T(recvmmsg(p[1], BAD, 1, MSG_DONTWAIT, NULL));
	T(writev(p[0], BAD, 1));
	T(readv(p[1], BAD, 1));
	T(writev(p[0], &wild, 1));
}

int main(void)
{
	begin();
	char *two = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	must(mprotect(two + 4096, 4096, PROT_NONE));
	edge = two + 4096 - 8;
	memset(edge, 0, 8);
	readonly = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	signal(SIGPIPE, SIG_IGN);
	run(AF_INET, SOCK_STREAM);
	run(AF_INET6, SOCK_STREAM);
	run(AF_INET, SOCK_DGRAM);
	run(AF_INET6, SOCK_DGRAM);
	return 0;
}

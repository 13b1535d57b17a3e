/* msg_flags: MSG_PEEK, WAITALL, DONTWAIT, TRUNC, MORE, NOSIGNAL on TCP and UDP. */
#include "common.h"

static void *in_parts(void *arg)
{
	int fd = *(int *)arg;

	for (int i = 0; i < 4; i++) {
		msleep(20);
		must(write(fd, "part", 4));
	}
	return NULL;
}

static const char *got(int fd, size_t n, int flags)
{
	char *s = scratch(), b[128] = "";
	ssize_t r = recv(fd, b, n, flags);

	snprintf(s, 512, "%s %.*s", outcome(r, errno), r > 0 ? (int)(r < 100 ? r : 100) : 0, b);
	return s;
}

static void tcp(void)
{
	int p[2];
	char b[64];
	struct iovec iov = {b, 4};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

	say("-- TCP");
	tcp_pair(AF_INET, p);
	say("DONTWAIT, nothing: %s", got(p[1], 10, MSG_DONTWAIT));
	must(write(p[0], "abcdefgh", 8));
	say("PEEK 4: %s", got(p[1], 4, MSG_PEEK));
	say("PEEK 100: %s", got(p[1], 100, MSG_PEEK));
	say("PEEK DONTWAIT: %s", got(p[1], 100, MSG_PEEK | MSG_DONTWAIT));
	T(recvmsg(p[1], &m, MSG_PEEK));
	say("flags %#x", m.msg_flags);
	say("2: %s", got(p[1], 2, 0));
	say("then PEEK: %s", got(p[1], 100, MSG_PEEK));
	say("TRUNC discards: %s", outcome(recv(p[1], NULL, 3, MSG_TRUNC), errno));
	say("the rest: %s", got(p[1], 100, 0));
	pthread_t t = spawn(in_parts, &p[0]);
	say("WAITALL: %s", got(p[1], 16, MSG_WAITALL));
	pthread_join(t, NULL);
	t = spawn(in_parts, &p[0]);
	say("WAITALL by recvmsg: %s", ({ struct iovec v[2] = {{b, 10}, {b + 10, 6}}; struct msghdr w = {.msg_iov = v, .msg_iovlen = 2}; ssize_t r = recvmsg(p[1], &w, MSG_WAITALL); outcome(r, errno); }));
	pthread_join(t, NULL);
	must(write(p[0], "short", 5));
	must(shutdown(p[0], SHUT_WR));
	say("WAITALL at the end: %s", got(p[1], 16, MSG_WAITALL));
	say("after the end: %s", got(p[1], 16, MSG_WAITALL));
	say("PEEK at the end: %s", got(p[1], 16, MSG_PEEK));
	must(close(p[0]));
	must(close(p[1]));

	say("-- TCP, MSG_MORE");
	tcp_pair(AF_INET6, p);
	T(send(p[0], "one ", 4, MSG_MORE));
	T(send(p[0], "two ", 4, MSG_MORE));
	T(send(p[0], "three", 5, 0));
	say("read: %s", read_text(p[1], 13));
	T(send(p[0], "corked", 6, MSG_MORE));
	must(set_int(p[0], IPPROTO_TCP, TCP_NODELAY, 1));
	say("read: %s", read_text(p[1], 6));
	say("-- TCP, an address in sendto and recvfrom");
	struct addr a = ip6("::1", 1), from = {.len = sizeof from.ss};
	T(sendto(p[0], "ignored", 7, 0, &a.sa, a.len));
	T(recvfrom(p[1], b, sizeof b, 0, &from.sa, &from.len));
	say("address length %u", (unsigned)from.len);
	T(send(p[0], "", 0, 0));
	T(recv(p[1], b, 0, MSG_DONTWAIT));
	T(recv(p[1], b, 1, MSG_ERRQUEUE));
	T(send(p[0], "c", 1, MSG_CONFIRM | MSG_DONTROUTE | MSG_EOR));
	T(recv(p[1], b, 1, 0));
	must(close(p[1]));
	msleep(20);
	say("-- NOSIGNAL");
	send(p[0], "x", 1, MSG_NOSIGNAL);
	msleep(20);
	T(send(p[0], "x", 1, MSG_NOSIGNAL));
	int s = must(socket(AF_INET, SOCK_STREAM, 0));
	T(send(s, "x", 1, MSG_NOSIGNAL));
	T(recv(s, b, 1, 0));
}

static void udp(int family)
{
	char b[64];

	say("-- UDP, %s", family == AF_INET ? "IPv4" : "IPv6");
	int u = udp_on(family), v = udp_on(family);
	struct addr to = local(u);
	must(connect(v, &to.sa, to.len));
	say("DONTWAIT, nothing: %s", got(u, 10, MSG_DONTWAIT));
	must(send(v, "datagram", 8, 0));
	say("PEEK 4: %s", got(u, 4, MSG_PEEK));
	say("PEEK TRUNC 4: %s", outcome(recv(u, b, 4, MSG_PEEK | MSG_TRUNC), errno));
	struct iovec iov = {b, 4};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	T(recvmsg(u, &m, MSG_PEEK));
	say("flags %#x", m.msg_flags);
	say("TRUNC 4: %s", outcome(recv(u, b, 4, MSG_TRUNC), errno));
	say("gone: %s", got(u, 10, MSG_DONTWAIT));
	must(send(v, "again", 5, 0));
	say("WAITALL 100: %s", got(u, 100, MSG_WAITALL));
	T(send(v, "one ", 4, MSG_MORE));
	T(send(v, "two", 3, 0));
	say("MORE: %s", got(u, 100, 0));
	T(send(v, "oob", 3, MSG_OOB));
	T(recv(u, b, 3, MSG_OOB | MSG_DONTWAIT));
	T(recv(u, b, 3, MSG_ERRQUEUE));
	T(send(v, "d", 1, MSG_DONTROUTE | MSG_CONFIRM | MSG_NOSIGNAL));
	say("DONTROUTE: %s", got(u, 100, 0));
}

int main(void)
{
	begin();
	tcp();
	udp(AF_INET);
	udp(AF_INET6);
	return 0;
}

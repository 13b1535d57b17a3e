/* disconnect: connect with AF_UNSPEC on TCP and UDP sockets. */
#include "common.h"

static struct sockaddr unspec = {.sa_family = AF_UNSPEC};

static void udp(int family)
{
	char b[16];

	say("-- UDP, %s", family == AF_INET ? "IPv4" : "IPv6");
	int x = udp_on(family), y = udp_on(family);
	struct addr xa = local(x), ya = local(y);
	int s = must(socket(family, SOCK_DGRAM, 0));
	T(connect(s, &unspec, sizeof unspec));
	T(connect(s, &xa.sa, xa.len));
	say("local %s peer %s", localname(s), peername(s));
	T(send(s, "x", 1, 0));
	T(recv(x, b, sizeof b, 0));
	struct addr sa = local(s);
	T(connect(s, &ya.sa, ya.len));
	say("same local port: %s", local(s).v4.sin_port == sa.v4.sin_port ? "yes" : "no");
	T(send(s, "y", 1, 0));
	T(recv(y, b, sizeof b, 0));
	T(sendto(x, "not from the peer", 17, 0, &sa.sa, sa.len));
	msleep(30);
	T(recv(s, b, sizeof b, MSG_DONTWAIT));
	T(connect(s, &unspec, sizeof unspec));
	say("local %s peer %s", localname(s), peername(s));
	T(send(s, "z", 1, 0));
	settle(s);
	T(sendto(s, "z", 1, 0, &xa.sa, xa.len));
	T(recv(x, b, sizeof b, 0));
	T(connect(s, &unspec, 1));
	T(connect(s, &unspec, 2));
	must(close(s));

	s = udp_on(family);
	T(connect(s, &xa.sa, xa.len));
	T(connect(s, &unspec, sizeof unspec));
	say("bound: local %s peer %s", localname(s), peername(s));
}

static void tcp(int family)
{
	int p[2];
	char c;

	say("-- TCP, %s", family == AF_INET ? "IPv4" : "IPv6");
	int s = must(socket(family, SOCK_STREAM, 0));
	T(connect(s, &unspec, sizeof unspec));
	tcp_pair(family, p);
	T(connect(p[0], &unspec, sizeof unspec));
	say("peer %s", peername(p[0]));
	mask("mask", p[0], POLLOUT | POLLERR | POLLHUP);
	T(read(p[1], &c, 1));
	T(read(p[0], &c, 1));

	say("-- and connects elsewhere");
	int l = listener(family, 2);
	struct addr to = local(l);
	T(connect(p[0], &to.sa, to.len));
	int a = F(accept(l, NULL, NULL));
	T(write(p[0], "new", 3));
	say("read: %s", read_text(a, 3));

	say("-- a listener stops listening");
	T(connect(l, &unspec, sizeof unspec));
	T(accept(l, NULL, NULL));
	s = must(socket(family, SOCK_STREAM, 0));
	T(connect(s, &to.sa, to.len));
	mask("mask", l, POLLOUT | POLLHUP);
}

int main(void)
{
	begin();
	udp(AF_INET);
	udp(AF_INET6);
	tcp(AF_INET);
	tcp(AF_INET6);
	say("-- a refused connect, then AF_UNSPEC, then a good one");
	int l = listener(AF_INET, 1);
	struct addr to = local(l);
	must(close(l));
	int s = must(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	connect(s, &to.sa, to.len);
	await(s, POLLOUT);
	T(connect(s, &unspec, sizeof unspec));
	l = listener(AF_INET, 1);
	to = local(l);
	nonblock(s, 0);
	T(connect(s, &to.sa, to.len));
	say("SO_ERROR %s", so_error(s));
	return 0;
}

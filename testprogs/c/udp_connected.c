/* udp_connected: what connect does to a UDP socket: who may send to it, and where it sends. */
#include "common.h"

static void run(int family)
{
	char b[16];
	struct addr from = {.len = sizeof from.ss};

	say("-- %s", family == AF_INET ? "IPv4" : "IPv6");
	int x = udp_on(family), y = udp_on(family), s = must(socket(family, SOCK_DGRAM, 0));
	struct addr xa = local(x), ya = local(y);
	T(send(s, "x", 1, 0));
	settle(s);
	T(write(s, "x", 1));
	settle(s);
	T(sendto(s, "x", 1, 0, NULL, 0));
	settle(s);
	say("after sends that failed: local %s", localname(s));
	T(sendto(s, "x", 1, 0, &xa.sa, xa.len));
	say("local %s", localname(s));
	T(recv(x, b, sizeof b, 0));
	T(connect(s, &xa.sa, xa.len));
	struct addr sa = local(s);
	say("local %s peer %s", localname(s), peername(s));
	say("-- while connected");
	T(sendto(s, "to y", 4, 0, &ya.sa, ya.len));
	T(recvfrom(y, b, sizeof b, 0, &from.sa, &from.len));
	T(send(s, "to x", 4, 0));
	T(recv(x, b, sizeof b, 0));
	T(sendto(y, "from y", 6, 0, &sa.sa, sa.len));
	msleep(20);
	T(recv(s, b, sizeof b, MSG_DONTWAIT));
	T(sendto(x, "from x", 6, 0, &sa.sa, sa.len));
	T(read(s, b, sizeof b));
	T(sendto(x, "again", 5, 0, &sa.sa, sa.len));
	from.len = sizeof from.ss;
	T(recvfrom(s, b, sizeof b, 0, &from.sa, &from.len));
	say("from x: %s", from.v4.sin_port == xa.v4.sin_port ? "yes" : "no");
	say("-- queued before connect");
	int q = udp_on(family);
	struct addr qa = local(q);
	T(sendto(y, "early", 5, 0, &qa.sa, qa.len));
	await(q, POLLIN);
	T(connect(q, &xa.sa, xa.len));
	T(recv(q, b, sizeof b, MSG_DONTWAIT));
	say("-- connect to the any address");
	struct addr any = family == AF_INET ? ip4("0.0.0.0", 7501) : ip6("::", 7501);
	int z = must(socket(family, SOCK_DGRAM, 0));
	T(connect(z, &any.sa, any.len));
	say("peer %s", peername(z));
	say("-- shutdown");
	T(shutdown(z, SHUT_WR));
	T(send(z, "x", 1, MSG_NOSIGNAL));
	int w = udp_on(family);
	T(shutdown(w, SHUT_WR));
	T(sendto(w, "x", 1, MSG_NOSIGNAL, &xa.sa, xa.len));
	T(listen(w, 1));
	T(accept(w, NULL, NULL));
	say("-- two sockets, one connected: the better match receives");
	int on = 1, c1 = must(socket(family, SOCK_DGRAM, 0)), c2 = must(socket(family, SOCK_DGRAM, 0));
	struct addr at = loop(family, 7502);
	must(setsockopt(c1, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
	must(setsockopt(c2, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
	must(bind(c1, &at.sa, at.len));
	must(bind(c2, &at.sa, at.len));
	must(connect(c1, &xa.sa, xa.len));
	T(sendto(x, "match", 5, 0, &at.sa, at.len));
	T(sendto(y, "other", 5, 0, &at.sa, at.len));
	T(recv(c1, b, sizeof b, 0));
	say("%.5s", b);
	T(recv(c2, b, sizeof b, 0));
	say("%.5s", b);
	T(recv(c1, b, sizeof b, MSG_DONTWAIT));
}

int main(void)
{
	begin();
	run(AF_INET);
	run(AF_INET6);
	say("-- many peers of one socket");
	int u = udp_on(AF_INET), seen = 0;
	struct addr to = local(u);
	for (int i = 0; i < 100; i++) {
		char c = i;
		int s = must(socket(AF_INET, SOCK_DGRAM, 0));
		must(sendto(s, &c, 1, 0, &to.sa, to.len));
		struct addr from = {.len = sizeof from.ss};
		must(recvfrom(u, &c, 1, 0, &from.sa, &from.len));
		must(sendto(u, &c, 1, 0, &from.sa, from.len));
		char d = -1;
		must(recv(s, &d, 1, 0));
		seen += d == c;
		must(close(s));
	}
	say("answered %d", seen);
	return 0;
}

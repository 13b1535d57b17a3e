/* shutdown_errors: shutdown in every state, twice, and with wrong arguments. */
#include "common.h"

static void all(const char *label, int fd)
{
	say("-- %s", label);
	T(shutdown(fd, 3));
	T(shutdown(fd, -1));
	T(shutdown(fd, SHUT_RD));
	T(shutdown(fd, SHUT_RD));
	T(shutdown(fd, SHUT_WR));
	msleep(20); /* the FIN is acknowledged */
	T(shutdown(fd, SHUT_WR));
	T(shutdown(fd, SHUT_RDWR));
}

int main(void)
{
	int p[2];
	char c;

	begin();
	signal(SIGPIPE, SIG_IGN);
	all("fresh TCP", must(socket(AF_INET, SOCK_STREAM, 0)));
	int s = must(socket(AF_INET6, SOCK_STREAM, 0));
	struct addr a = ip6("::1", 0);
	must(bind(s, &a.sa, a.len));
	all("bound TCP", s);
	tcp_pair(AF_INET, p);
	all("connected TCP", p[0]);
	say("peer %s", peername(p[0]));
	T(read(p[1], &c, 1));
	T(write(p[0], "x", 1));
	tcp_pair(AF_INET, p);
	must(close(p[1]));
	T(read(p[0], &c, 1));
	all("TCP after the peer's FIN", p[0]);
	tcp_pair(AF_INET, p);
	struct linger li = {1, 0};
	must(setsockopt(p[1], SOL_SOCKET, SO_LINGER, &li, sizeof li));
	must(close(p[1]));
	await(p[0], POLLERR);
	msleep(10);
	all("TCP after RST", p[0]);
	all("fresh UDP", must(socket(AF_INET, SOCK_DGRAM, 0)));
	int u = udp_on(AF_INET);
	all("bound UDP", u);
	a = local(u);
	int v = must(socket(AF_INET, SOCK_DGRAM, 0));
	must(connect(v, &a.sa, a.len));
	all("connected UDP", v);
	T(send(v, "x", 1, 0));
	T(recv(v, &c, 1, 0));
	int l = listener(AF_INET, 2);
	struct addr to = local(l);
	int d = dial(l);
	say("-- a listener with a connection pending");
	T(shutdown(l, SHUT_WR));
	T(shutdown(l, SHUT_RD));
	T(accept(l, NULL, NULL));
	T(read(d, &c, 1));
	T(shutdown(l, SHUT_RD));
	s = must(socket(AF_INET, SOCK_STREAM, 0));
	T(connect(s, &to.sa, to.len));
	T(shutdown(1, SHUT_RD));
	T(shutdown(-1, SHUT_RD));
	return 0;
}

/* rst: resets, by unread data, by linger 0 and by writing to a closed socket. */
#include "common.h"

static void linger0(int fd)
{
	struct linger li = {1, 0};

	must(setsockopt(fd, SOL_SOCKET, SO_LINGER, &li, sizeof li));
}

#define ALL (POLLIN | POLLOUT | POLLERR | POLLHUP | POLLRDHUP)

static void run(int family)
{
	int p[2];
	char b[64];

	say("-- %s: close with unread data", family == AF_INET ? "IPv4" : "IPv6");
	tcp_pair(family, p);
	must(write(p[0], "unread", 6));
	await(p[1], POLLIN);
	must(close(p[1]));
	mask("mask", p[0], ALL);
	T(read(p[0], b, sizeof b));
	T(read(p[0], b, sizeof b));
	T(write(p[0], "x", 1));
	must(close(p[0]));

	say("-- linger 0");
	tcp_pair(family, p);
	linger0(p[1]);
	must(close(p[1]));
	mask("mask", p[0], ALL);
	T(write(p[0], "x", 1));
	T(write(p[0], "x", 1));
	T(read(p[0], b, sizeof b));
	must(close(p[0]));

	say("-- linger 0 with data that the peer has not read");
	tcp_pair(family, p);
	must(write(p[1], "data", 4));
	await(p[0], POLLIN);
	linger0(p[1]);
	must(close(p[1]));
	mask("mask", p[0], ALL);
	T(read(p[0], b, sizeof b));
	T(read(p[0], b, sizeof b));
	T(read(p[0], b, sizeof b));
	must(close(p[0]));

	say("-- the error by SO_ERROR");
	tcp_pair(family, p);
	linger0(p[1]);
	must(close(p[1]));
	mask("mask", p[0], ALL);
	say("SO_ERROR %s", so_error(p[0]));
	say("SO_ERROR %s", so_error(p[0]));
	T(read(p[0], b, sizeof b));
	T(write(p[0], "x", 1));
	say("peer %s", peername(p[0]));
	T(shutdown(p[0], SHUT_WR));
	must(close(p[0]));

	say("-- a blocked reader");
	tcp_pair(family, p);
	pid_t pid = xfork();
	if (pid == 0) {
		msleep(50);
		linger0(p[1]);
		_exit(0);
	}
	must(close(p[1]));
	T(read(p[0], b, sizeof b));
	join(pid);
	must(close(p[0]));

	say("-- reset before accept");
	int l = listener(family, 4);
	int d = dial(l);
	must(write(d, "early", 5));
	linger0(d);
	must(close(d));
	msleep(30);
	int a = F(accept(l, NULL, NULL));
	T(read(a, b, sizeof b));
	T(read(a, b, sizeof b));
	must(close(a));

	say("-- closed before accept");
	d = dial(l);
	must(write(d, "early", 5));
	must(close(d));
	msleep(30);
	a = F(accept(l, NULL, NULL));
	say("read: %s", read_text(a, 5));
	T(read(a, b, sizeof b));
	must(close(a));

	say("-- the listener closes with a connection pending");
	d = dial(l);
	must(close(l));
	mask("mask", d, ALL);
	T(read(d, b, sizeof b));
	must(close(d));
}

int main(void)
{
	begin();
	signal(SIGPIPE, SIG_IGN);
	run(AF_INET);
	run(AF_INET6);
	return 0;
}

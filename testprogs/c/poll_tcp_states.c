/* poll_tcp_states: the poll mask of a TCP socket in every state that a program can see. */
#include "common.h"

static void reset(int fd)
{
	struct linger li = {1, 0};

	must(setsockopt(fd, SOL_SOCKET, SO_LINGER, &li, sizeof li));
	must(close(fd));
}

static void run(int family)
{
	int p[2];
	char c;

	say("-- %s", family == AF_INET ? "IPv4" : "IPv6");
	int s = must(socket(family, SOCK_STREAM, 0));
	mask("fresh", s, POLLOUT | POLLHUP);
	struct addr a = loop(family, 0);
	must(bind(s, &a.sa, a.len));
	mask("bound", s, POLLOUT | POLLHUP);
	must(listen(s, 4));
	mask("listening", s, 0);
	int d = dial(s);
	mask("listening, one pending", s, POLLIN);
	must(close(must(accept(s, NULL, NULL))));
	mask("listening, accepted", s, 0);
	must(close(d));
	T(shutdown(s, SHUT_RDWR));
	mask("listener shut down", s, POLLOUT | POLLHUP);
	must(close(s));

	tcp_pair(family, p);
	mask("connected", p[0], POLLOUT);
	mask("accepted", p[1], POLLOUT);
	must(write(p[0], "x", 1));
	mask("data", p[1], POLLIN | POLLOUT);
	must(shutdown(p[0], SHUT_WR));
	mask("data and FIN", p[1], POLLIN | POLLOUT | POLLRDHUP);
	T(read(p[1], &c, 1));
	mask("FIN", p[1], POLLIN | POLLOUT | POLLRDHUP);
	mask("own SHUT_WR", p[0], POLLOUT);
	must(write(p[1], "y", 1));
	mask("own SHUT_WR, data", p[0], POLLIN | POLLOUT);
	T(read(p[0], &c, 1));
	must(shutdown(p[1], SHUT_WR));
	mask("both directions shut, first", p[0], POLLIN | POLLOUT | POLLHUP | POLLRDHUP);
	mask("both directions shut, second", p[1], POLLIN | POLLOUT | POLLHUP | POLLRDHUP);
	must(close(p[0]));
	must(close(p[1]));

	tcp_pair(family, p);
	must(shutdown(p[0], SHUT_RD));
	mask("own SHUT_RD", p[0], POLLIN | POLLOUT | POLLRDHUP);
	mask("peer's SHUT_RD", p[1], POLLOUT);
	must(shutdown(p[0], SHUT_RDWR));
	mask("own SHUT_RDWR", p[0], POLLIN | POLLOUT | POLLHUP | POLLRDHUP);
	must(close(p[0]));
	must(close(p[1]));

	tcp_pair(family, p);
	reset(p[0]);
	mask("RST", p[1], POLLIN | POLLOUT | POLLERR | POLLHUP | POLLRDHUP);
	T(read(p[1], &c, 1));
	mask("RST, error read", p[1], POLLIN | POLLOUT | POLLHUP | POLLRDHUP);
	must(close(p[1]));

	tcp_pair(family, p);
	must(write(p[0], "data", 4));
	await(p[1], POLLIN);
	reset(p[0]);
	mask("data and RST", p[1], POLLIN | POLLOUT | POLLERR | POLLHUP | POLLRDHUP);
	say("SO_ERROR %s", so_error(p[1]));
	mask("data and RST, error taken", p[1], POLLIN | POLLOUT | POLLHUP | POLLRDHUP);
	must(close(p[1]));

	int l = listener(family, 1);
	struct addr to = local(l);
	must(close(l));
	s = must(socket(family, SOCK_STREAM, 0));
	T(connect(s, &to.sa, to.len));
	mask("refused, blocking", s, POLLOUT | POLLHUP);
	must(close(s));
	s = must(socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0));
	T(connect(s, &to.sa, to.len));
	mask("refused, not blocking", s, POLLIN | POLLOUT | POLLERR | POLLHUP | POLLRDHUP);
	say("SO_ERROR %s", so_error(s));
	mask("refused, error taken", s, POLLIN | POLLOUT | POLLHUP | POLLRDHUP);
	must(close(s));
}

int main(void)
{
	begin();
	run(AF_INET);
	run(AF_INET6);

	say("-- full queues");
	int p[2];
	static char big[1 << 16];
	tcp_pair(AF_INET, p);
	nonblock(p[0], 1);
	for (int idle = 0; idle < 60;) {
		if (write(p[0], big, sizeof big) > 0)
			idle = 0;
		else
			idle++, msleep(3);
	}
	mask("send queue full", p[0], 0);
	mask("its peer", p[1], POLLIN | POLLOUT);
	must(write(p[1], "q", 1));
	mask("send queue full, data", p[0], POLLIN);
	must(close(p[1]));
	mask("peer closed with data unread", p[0], POLLIN | POLLOUT | POLLERR | POLLHUP | POLLRDHUP);

	say("-- connecting");
	int l = listener(AF_INET, 0);
	struct addr to = local(l);
	dial(l);
	int s = must(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	T(connect(s, &to.sa, to.len));
	mask("connecting", s, 0);
	T(shutdown(s, SHUT_WR));
	return 0;
}

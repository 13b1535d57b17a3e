/* reuse: SO_REUSEADDR, SO_REUSEPORT and addresses in TIME_WAIT. */
#include "common.h"

static int made(int family, int type, int opt)
{
	int s = must(socket(family, type, 0));

	if (opt)
		must(set_int(s, SOL_SOCKET, opt, 1));
	return s;
}

static void pairs(int type)
{
	static const struct {
		int opt;
		const char *name;
	} o[] = {{0, "none"}, {SO_REUSEADDR, "REUSEADDR"}, {SO_REUSEPORT, "REUSEPORT"}};
	struct addr one = ip4("127.0.0.1", 7101), any = ip4("0.0.0.0", 7101), six = ip6("::", 7101);

	for (int i = 0; i < 3; i++)
		for (int j = 0; j < 3; j++) {
			int a = made(AF_INET, type, o[i].opt);
			int b = made(AF_INET, type, o[j].opt), c = made(AF_INET, type, o[j].opt), d = made(AF_INET6, type, o[j].opt);
			must(bind(a, &one.sa, one.len));
			char label[128];
			snprintf(label, sizeof label, "%s %s, then %s", type == SOCK_STREAM ? "TCP" : "UDP", o[i].name, o[j].name);
			int rb = bind(b, &one.sa, one.len), eb = errno;
			if (rb == 0)
				must(close(b));
			int rc = bind(c, &any.sa, any.len), ec = errno;
			if (rc == 0)
				must(close(c));
			int rd = bind(d, &six.sa, six.len), ed = errno;
			say("%s: same %s, any %s, IPv6 any %s", label, outcome(rb, eb), outcome(rc, ec), outcome(rd, ed));
			must(close(a));
			if (rb)
				must(close(b));
			if (rc)
				must(close(c));
			must(close(d));
		}
}

int main(void)
{
	struct addr a = ip4("127.0.0.1", 7102);
	char c;

	begin();
	pairs(SOCK_STREAM);
	pairs(SOCK_DGRAM);

	say("-- a listener, then another with");
	int l = made(AF_INET, SOCK_STREAM, SO_REUSEADDR);
	must(bind(l, &a.sa, a.len));
	must(listen(l, 4));
	int m = made(AF_INET, SOCK_STREAM, SO_REUSEADDR);
	L("REUSEADDR", bind(m, &a.sa, a.len));
	must(close(m));
	m = made(AF_INET, SOCK_STREAM, SO_REUSEPORT);
	L("REUSEPORT", bind(m, &a.sa, a.len));
	must(close(m));

	say("-- the server's side in TIME_WAIT");
	int d = dial(l), s = must(accept(l, NULL, NULL));
	must(close(s));
	T(read(d, &c, 1));
	must(close(d));
	msleep(20);
	must(close(l));
	l = made(AF_INET, SOCK_STREAM, 0);
	L("plain", bind(l, &a.sa, a.len));
	must(close(l));
	l = made(AF_INET, SOCK_STREAM, SO_REUSEADDR);
	L("REUSEADDR", bind(l, &a.sa, a.len));
	L("listen", listen(l, 4));
	say("-- a connection open, the listener anew");
	d = dial(l), s = must(accept(l, NULL, NULL));
	must(close(l));
	l = made(AF_INET, SOCK_STREAM, 0);
	L("plain", bind(l, &a.sa, a.len));
	must(close(l));
	l = made(AF_INET, SOCK_STREAM, SO_REUSEADDR);
	L("REUSEADDR", bind(l, &a.sa, a.len));
	L("listen", listen(l, 4));
	T(write(s, "k", 1));
	T(read(d, &c, 1));
	must(close(l));

	say("-- REUSEPORT shares the connections");
	int many[4], hits = 0, n = 0;
	a = ip4("127.0.0.1", 7103);
	for (int i = 0; i < 4; i++) {
		many[i] = made(AF_INET, SOCK_STREAM, SO_REUSEPORT);
		must(bind(many[i], &a.sa, a.len));
		must(listen(many[i], 64));
		nonblock(many[i], 1);
	}
	for (int i = 0; i < 60; i++)
		dial(many[0]);
	msleep(50);
	for (int i = 0; i < 4; i++) {
		int here = 0;
		while (accept(many[i], NULL, NULL) >= 0)
			here++;
		hits += here;
		n += here > 0;
	}
	say("accepted %d, by %s", hits, n >= 2 ? "several" : "one");
	say("-- REUSEPORT shares the datagrams");
	hits = n = 0;
	for (int i = 0; i < 4; i++) {
		many[i] = made(AF_INET, SOCK_DGRAM, SO_REUSEPORT);
		must(bind(many[i], &a.sa, a.len));
		nonblock(many[i], 1);
	}
	for (int i = 0; i < 60; i++) {
		int u = must(socket(AF_INET, SOCK_DGRAM, 0));
		must(sendto(u, "x", 1, 0, &a.sa, a.len));
		must(close(u));
	}
	msleep(50);
	for (int i = 0; i < 4; i++) {
		int here = 0;
		while (recv(many[i], &c, 1, 0) >= 0)
			here++;
		hits += here;
		n += here > 0;
	}
	say("received %d, by %s", hits, n >= 2 ? "several" : "one");
	return 0;
}

/* connect_nonblock: connect that does not block: success, refusal, and calls made again. */
#include "common.h"

/* begun is connect's answer where 0 and EINPROGRESS are both right. */
static const char *begun(int r)
{
	return r == 0 || errno == EINPROGRESS ? "begun" : ename(errno);
}

static void run(int family)
{
	char c;

	say("-- %s, succeeds", family == AF_INET ? "IPv4" : "IPv6");
	int l = listener(family, 4);
	struct addr to = local(l);
	int s = must(socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0));
	say("peer before: %s", peername(s));
	say("connect: %s", begun(connect(s, &to.sa, to.len)));
	mask("then", s, POLLOUT);
	say("SO_ERROR %s", so_error(s));
	say("peer: %s, local: %s", peername(s), localname(s));
	L("connect again", ({ int r = connect(s, &to.sa, to.len); r == 0 ? r : errno == EISCONN ? 0 : r; }));
	L("connect a third time", connect(s, &to.sa, to.len));
	int a = must(accept(l, NULL, NULL));
	T(read(s, &c, 1));
	T(write(a, "k", 1));
	await(s, POLLIN);
	T(read(s, &c, 1));
	must(close(a));
	must(close(s));

	say("-- refused");
	must(close(l));
	s = must(socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0));
	say("connect: %s", begun(connect(s, &to.sa, to.len)));
	await(s, POLLOUT);
	say("SO_ERROR %s", so_error(s));
	say("SO_ERROR again %s", so_error(s));
	say("peer: %s", peername(s));
	T(read(s, &c, 1));
	signal(SIGPIPE, SIG_IGN);
	T(write(s, "x", 1));

	say("-- the refused socket tries again");
	l = must(socket(family, SOCK_STREAM, 0));
	must(set_int(l, SOL_SOCKET, SO_REUSEADDR, 1));
	must(bind(l, &to.sa, to.len));
	must(listen(l, 4));
	int r = connect(s, &to.sa, to.len);
	say("first: %s", r < 0 && errno == ECONNABORTED ? "ECONNABORTED" : begun(r));
	say("second: %s", ({ r = connect(s, &to.sa, to.len); r == 0 || errno == EINPROGRESS || errno == EALREADY || errno == EISCONN ? "begun" : ename(errno); }));
	mask("then", s, POLLOUT);
	say("SO_ERROR %s", so_error(s));
	say("peer: %s", peername(s));
	must(close(s));
	must(close(l));

	say("-- refused, the error by connect itself");
	s = must(socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0));
	say("connect: %s", begun(connect(s, &to.sa, to.len)));
	await(s, POLLOUT);
	L("connect again", connect(s, &to.sa, to.len));
	must(close(s));

	say("-- refused, the error by read");
	s = must(socket(family, SOCK_STREAM | SOCK_NONBLOCK, 0));
	say("connect: %s", begun(connect(s, &to.sa, to.len)));
	await(s, POLLOUT);
	T(read(s, &c, 1));
	T(read(s, &c, 1));
	say("SO_ERROR %s", so_error(s));
	must(close(s));

	say("-- blocking, refused, then accepted");
	s = must(socket(family, SOCK_STREAM, 0));
	L("connect", connect(s, &to.sa, to.len));
	say("SO_ERROR %s", so_error(s));
	l = must(socket(family, SOCK_STREAM, 0));
	must(set_int(l, SOL_SOCKET, SO_REUSEADDR, 1));
	must(bind(l, &to.sa, to.len));
	must(listen(l, 4));
	L("connect again", connect(s, &to.sa, to.len));
	L("connect when connected", connect(s, &to.sa, to.len));
	say("peer: %s", peername(s));
	must(close(s));
	must(close(l));
}

int main(void)
{
	begin();
	run(AF_INET);
	run(AF_INET6);

	say("-- addresses that cannot be");
	int s = must(socket(AF_INET, SOCK_STREAM, 0));
	struct addr a = ip6("::1", 7000);
	L("IPv6 address on an IPv4 socket", connect(s, &a.sa, a.len));
	a = ip4("127.0.0.1", 7000);
	L("too short", connect(s, &a.sa, 8));
	a = ip4("224.0.0.1", 7000);
	L("multicast", connect(s, &a.sa, a.len));
	a = ip4("255.255.255.255", 7000);
	L("broadcast", connect(s, &a.sa, a.len));
	a = ip4("192.0.2.1", 7000);
	L("no route", connect(s, &a.sa, a.len));
	a = ip4("127.0.0.1", 0);
	L("port 0", connect(s, &a.sa, a.len));
	a.sa.sa_family = 77;
	L("unknown family", connect(s, &a.sa, a.len));
	int s6 = must(socket(AF_INET6, SOCK_STREAM, 0));
	a = ip4("127.0.0.1", 7000);
	L("IPv4 address on an IPv6 socket", connect(s6, &a.sa, a.len));
	a = ip6("2001:db8::1", 7000);
	L("IPv6, no route", connect(s6, &a.sa, a.len));
	a = ip6("fe80::1", 7000);
	L("link-local without a scope", connect(s6, &a.sa, a.len));
	a = ip6("::ffff:127.0.0.1", 7000);
	L("mapped, refused", connect(s6, &a.sa, a.len));
	s6 = must(socket(AF_INET6, SOCK_STREAM, 0));
	must(set_int(s6, IPPROTO_IPV6, IPV6_V6ONLY, 1));
	L("mapped, IPV6_V6ONLY", connect(s6, &a.sa, a.len));
	int l = listener(AF_INET, 1);
	a = ip4("127.0.0.1", 7000);
	L("a listener connects", connect(l, &a.sa, a.len));
	say("-- to itself");
	s = must(socket(AF_INET, SOCK_STREAM, 0));
	a = ip4("127.0.0.1", 7099);
	T(bind(s, &a.sa, a.len));
	T(connect(s, &a.sa, a.len));
	T(write(s, "me", 2));
	say("read: %s", read_text(s, 2));
	return 0;
}

/* bind_errors: what bind, listen and accept refuse. */
#include "common.h"

static void run(int type)
{
	struct addr a, any4 = ip4("0.0.0.0", 0), any6 = ip6("::", 0);
	struct linger li;
	(void)li;

	say("-- %s", type == SOCK_STREAM ? "TCP" : "UDP");
	int s = must(socket(AF_INET, type, 0));
	a = ip4("127.0.0.1", 7001);
	T(bind(s, &a.sa, a.len));
	L("again", bind(s, &a.sa, a.len));
	L("again, any", bind(s, &any4.sa, any4.len));
	int t = must(socket(AF_INET, type, 0));
	L("in use", bind(t, &a.sa, a.len));
	a = ip4("0.0.0.0", 7001);
	L("in use, any", bind(t, &a.sa, a.len));
	a = ip4("127.0.0.2", 7001);
	L("another address, same port", bind(t, &a.sa, a.len));
	say("%s", localname(t));
	must(close(t));
	t = must(socket(AF_INET, type, 0));
	a = ip4("192.0.2.1", 7001);
	L("not an address of this host", bind(t, &a.sa, a.len));
	a = ip4("255.255.255.255", 7001);
	L("broadcast", bind(t, &a.sa, a.len));
	must(close(t));
	t = must(socket(AF_INET, type, 0));
	a = ip4("224.0.0.5", 7001);
	L("multicast", bind(t, &a.sa, a.len));
	must(close(t));
	t = must(socket(AF_INET, type, 0));
	a = ip6("::1", 7001);
	L("IPv6 address on an IPv4 socket", bind(t, &a.sa, a.len));
	a = ip4("127.0.0.1", 7002);
	L("short", bind(t, &a.sa, 15));
	L("of 2 bytes", bind(t, &a.sa, 2));
	L("of 1 byte", bind(t, &a.sa, 1));
	L("of 0 bytes", bind(t, &a.sa, 0));
	L("negative length", bind(t, &a.sa, -1));
	L("long", bind(t, &a.sa, sizeof a.ss));
	say("%s", localname(t));
	must(close(t));
	t = must(socket(AF_INET, type, 0));
	L("too long", bind(t, &a.sa, 129));
	a = ip4("0.0.0.0", 7003);
	a.sa.sa_family = AF_UNSPEC;
	L("AF_UNSPEC and any", bind(t, &a.sa, a.len));
	say("%s", localname(t));
	must(close(t));
	t = must(socket(AF_INET, type, 0));
	a = ip4("127.0.0.1", 7004);
	a.sa.sa_family = AF_UNSPEC;
	L("AF_UNSPEC and an address", bind(t, &a.sa, a.len));
	a = ip4("127.0.0.1", 80);
	L("privileged port", bind(t, &a.sa, a.len));

	int s6 = must(socket(AF_INET6, type, 0));
	a = ip4("127.0.0.1", 7005);
	L("IPv4 address on an IPv6 socket", bind(s6, &a.sa, a.len));
	a = ip6("2001:db8::1", 7005);
	L("IPv6, not here", bind(s6, &a.sa, a.len));
	a = ip6("fe80::1", 7005);
	L("link-local without a scope", bind(s6, &a.sa, a.len));
	a = ip6("::1", 7005);
	L("IPv6, 24 bytes", bind(s6, &a.sa, 24));
	must(close(s6));
	s6 = must(socket(AF_INET6, type, 0));
	L("IPv6, 23 bytes", bind(s6, &a.sa, 23));
	a = ip6("::ffff:127.0.0.1", 7001);
	L("mapped, in use", bind(s6, &a.sa, a.len));
	a = ip6("::", 7001);
	L("any, in use by IPv4", bind(s6, &a.sa, a.len));
	must(set_int(s6, IPPROTO_IPV6, IPV6_V6ONLY, 1));
	L("any, IPV6_V6ONLY", bind(s6, &a.sa, a.len));
	say("%s", localname(s6));
	must(close(s6));
	s6 = must(socket(AF_INET6, type, 0));
	must(set_int(s6, IPPROTO_IPV6, IPV6_V6ONLY, 1));
	a = ip6("::ffff:127.0.0.1", 7006);
	L("mapped, IPV6_V6ONLY", bind(s6, &a.sa, a.len));
	must(close(s6));
	s6 = must(socket(AF_INET6, type, 0));
	L("any, any port", bind(s6, &any6.sa, any6.len));
	L("V6ONLY after bind", set_int(s6, IPPROTO_IPV6, IPV6_V6ONLY, 1));
	a = ip4("0.0.0.0", ntohs(local(s6).v6.sin6_port));
	int q = must(socket(AF_INET, type, 0));
	L("IPv4 any beside dual-stack any", bind(q, &a.sa, a.len));
	must(close(s));
	must(close(s6));
	must(close(q));

	say("-- after connect");
	s = must(socket(AF_INET, type, 0));
	if (type == SOCK_STREAM) {
		int p[2];
		tcp_pair(AF_INET, p);
		must(dup2(p[0], s));
	} else {
		a = ip4("127.0.0.1", 7009);
		must(connect(s, &a.sa, a.len));
	}
	a = ip4("127.0.0.1", 7010);
	L("bind", bind(s, &a.sa, a.len));
	L("listen", listen(s, 1));
	L("accept", accept(s, NULL, NULL));
}

int main(void)
{
	struct addr a;

	begin();
	run(SOCK_STREAM);
	run(SOCK_DGRAM);
	say("-- listen");
	int s = must(socket(AF_INET, SOCK_STREAM, 0));
	T(accept(s, NULL, NULL));
	T(listen(s, 5));
	say("unbound: %s", localname(s));
	T(listen(s, 10));
	T(listen(s, -1));
	a = ip4("127.0.0.1", 7011);
	T(bind(s, &a.sa, a.len));
	T(connect(s, &a.sa, a.len));
	say("-- two bound with SO_REUSEADDR, both want to listen");
	int x = must(socket(AF_INET, SOCK_STREAM, 0)), y = must(socket(AF_INET, SOCK_STREAM, 0));
	must(set_int(x, SOL_SOCKET, SO_REUSEADDR, 1));
	must(set_int(y, SOL_SOCKET, SO_REUSEADDR, 1));
	T(bind(x, &a.sa, a.len));
	T(bind(y, &a.sa, a.len));
	T(listen(x, 1));
	T(listen(y, 1));
	int z = must(socket(AF_INET, SOCK_STREAM, 0));
	must(set_int(z, SOL_SOCKET, SO_REUSEADDR, 1));
	T(bind(z, &a.sa, a.len));
	say("-- netlink, unix and unknown descriptors");
	T(listen(0, 1));
	T(bind(-1, &a.sa, a.len));
	T(listen(999, 1));
	return 0;
}

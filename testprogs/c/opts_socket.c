/* opts_socket: the options of SOL_SOCKET. */
#include "options.h"

static const struct option all[] = {
	OPT(SOL_SOCKET, SO_DEBUG), OPT(SOL_SOCKET, SO_REUSEADDR), OPT(SOL_SOCKET, SO_TYPE), OPT(SOL_SOCKET, SO_ERROR),
	OPT(SOL_SOCKET, SO_DONTROUTE), OPT(SOL_SOCKET, SO_BROADCAST), OPT(SOL_SOCKET, SO_SNDBUF), OPT(SOL_SOCKET, SO_RCVBUF),
	OPT(SOL_SOCKET, SO_KEEPALIVE), OPT(SOL_SOCKET, SO_OOBINLINE), OPT(SOL_SOCKET, SO_NO_CHECK), OPT(SOL_SOCKET, SO_PRIORITY),
	OPT(SOL_SOCKET, SO_REUSEPORT), OPT(SOL_SOCKET, SO_PASSCRED), OPT(SOL_SOCKET, SO_RCVLOWAT), OPT(SOL_SOCKET, SO_SNDLOWAT),
	OPT(SOL_SOCKET, SO_TIMESTAMP), OPT(SOL_SOCKET, SO_ACCEPTCONN), OPT(SOL_SOCKET, SO_MARK), OPT(SOL_SOCKET, SO_PROTOCOL),
	OPT(SOL_SOCKET, SO_DOMAIN), OPT(SOL_SOCKET, SO_RXQ_OVFL), OPT(SOL_SOCKET, SO_PEEK_OFF), OPT(SOL_SOCKET, SO_NOFCS),
	OPT(SOL_SOCKET, SO_LOCK_FILTER), OPT(SOL_SOCKET, SO_SELECT_ERR_QUEUE), OPT(SOL_SOCKET, SO_BUSY_POLL),
	OPT(SOL_SOCKET, SO_INCOMING_NAPI_ID), OPT(SOL_SOCKET, SO_ZEROCOPY), OPT(SOL_SOCKET, SO_TIMESTAMPNS),
	{SOL_SOCKET, 9999, "unknown option 9999"}, {SOL_SOCKET, 0, "option 0"}, {SOL_SOCKET, -1, "option -1"},
};

static const struct option flags[] = {
	OPT(SOL_SOCKET, SO_REUSEADDR), OPT(SOL_SOCKET, SO_REUSEPORT), OPT(SOL_SOCKET, SO_KEEPALIVE), OPT(SOL_SOCKET, SO_BROADCAST),
	OPT(SOL_SOCKET, SO_OOBINLINE), OPT(SOL_SOCKET, SO_DONTROUTE), OPT(SOL_SOCKET, SO_TIMESTAMP), OPT(SOL_SOCKET, SO_NO_CHECK),
	OPT(SOL_SOCKET, SO_RXQ_OVFL), OPT(SOL_SOCKET, SO_TYPE), OPT(SOL_SOCKET, SO_ACCEPTCONN), OPT(SOL_SOCKET, SO_ERROR),
	OPT(SOL_SOCKET, SO_DOMAIN), OPT(SOL_SOCKET, SO_PROTOCOL), OPT(SOL_SOCKET, SO_SNDLOWAT), OPT(SOL_SOCKET, SO_PASSCRED),
	{SOL_SOCKET, 9999, "unknown option 9999"},
};

int main(void)
{
	static const int bools[] = {1, 0, 7, -1};
	static const int sizes[] = {0, 1, 1000, 4096, 65536, 100000, 200000};
	static const int prios[] = {0, 1, 6, 7, -1};
	static const int lows[] = {0, 1, 100, -1};
	static const struct option rcv = OPT(SOL_SOCKET, SO_RCVBUF), snd = OPT(SOL_SOCKET, SO_SNDBUF), prio = OPT(SOL_SOCKET, SO_PRIORITY),
				   low = OPT(SOL_SOCKET, SO_RCVLOWAT), rcvf = OPT(SOL_SOCKET, SO_RCVBUFFORCE), mark = OPT(SOL_SOCKET, SO_MARK),
				   peek = OPT(SOL_SOCKET, SO_PEEK_OFF);
	char b[64];

	begin();
	for (int i = 0; i < COUNT(option_sockets); i++) {
		say("-- %s", option_sockets[i].label);
		int s = must(socket(option_sockets[i].family, option_sockets[i].type, 0));
		option_defaults(s, all, COUNT(all));
		for (int k = 0; k < COUNT(flags); k++)
			option_values(s, &flags[k], bools, COUNT(bools));
		option_values(s, &rcv, sizes, COUNT(sizes));
		option_values(s, &snd, sizes, COUNT(sizes));
		option_values(s, &prio, prios, COUNT(prios));
		option_values(s, &low, lows, COUNT(lows));
		option_values(s, &rcvf, sizes, 1);
		option_values(s, &mark, sizes, 2);
		option_values(s, &peek, lows, COUNT(lows));
		option_sizes(s, &flags[0]);
		option_sizes(s, &rcv);
		option_sizes(s, &all[2]);
		L("SO_BINDTODEVICE lo", setsockopt(s, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3));
		socklen_t n = sizeof b;
		memset(b, 0, sizeof b);
		int r = getsockopt(s, SOL_SOCKET, SO_BINDTODEVICE, b, &n);
		say("SO_BINDTODEVICE: %s \"%s\" %u", outcome(r, errno), b, (unsigned)n);
		L("SO_BINDTODEVICE none such", setsockopt(s, SOL_SOCKET, SO_BINDTODEVICE, "none0", 6));
		n = sizeof b;
		L("SO_PEERNAME", getsockopt(s, SOL_SOCKET, SO_PEERNAME, b, &n));
		n = 8;
		L("SO_COOKIE", getsockopt(s, SOL_SOCKET, SO_COOKIE, b, &n));
		n = sizeof b;
		L("SO_PEERCRED", getsockopt(s, SOL_SOCKET, SO_PEERCRED, b, &n));
		L("SO_DETACH_FILTER", set_int(s, SOL_SOCKET, SO_DETACH_FILTER, 0));
		must(close(s));
	}
	say("-- states");
	int l = listener(AF_INET, 2), p[2];
	say("SO_ACCEPTCONN of a listener %d", get_int(l, SOL_SOCKET, SO_ACCEPTCONN));
	must(set_int(l, SOL_SOCKET, SO_KEEPALIVE, 1));
	must(set_int(l, SOL_SOCKET, SO_RCVBUF, 20000));
	must(set_int(l, SOL_SOCKET, SO_OOBINLINE, 1));
	p[0] = dial(l);
	p[1] = must(accept(l, NULL, NULL));
	say("accepted: SO_ACCEPTCONN %d SO_KEEPALIVE %d SO_RCVBUF %d SO_OOBINLINE %d SO_REUSEADDR %d", get_int(p[1], SOL_SOCKET, SO_ACCEPTCONN),
	    get_int(p[1], SOL_SOCKET, SO_KEEPALIVE), get_int(p[1], SOL_SOCKET, SO_RCVBUF), get_int(p[1], SOL_SOCKET, SO_OOBINLINE),
	    get_int(p[1], SOL_SOCKET, SO_REUSEADDR));
	say("-- levels that are none");
	T(get_int(p[0], 9999, 1));
	T(set_int(p[0], 9999, 1, 1));
	T(get_int(p[0], -1, 1));
	T(set_int(p[0], -1, 1, 1));
	T(get_int(p[0], IPPROTO_UDP, 1));
	T(get_int(p[0], SOL_RAW, 1));
	int u = udp_on(AF_INET);
	T(get_int(u, IPPROTO_TCP, TCP_NODELAY));
	T(set_int(u, IPPROTO_TCP, TCP_NODELAY, 1));
	T(get_int(u, IPPROTO_IPV6, IPV6_V6ONLY));
	T(set_int(u, IPPROTO_IPV6, IPV6_V6ONLY, 1));
	return 0;
}

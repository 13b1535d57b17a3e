/* opts_ipv6: the options of IPPROTO_IPV6, on sockets of both families. */
#include "options.h"

static const struct option all[] = {
	OPT(IPPROTO_IPV6, IPV6_V6ONLY), OPT(IPPROTO_IPV6, IPV6_UNICAST_HOPS), OPT(IPPROTO_IPV6, IPV6_MULTICAST_HOPS),
	OPT(IPPROTO_IPV6, IPV6_MULTICAST_LOOP), OPT(IPPROTO_IPV6, IPV6_MULTICAST_IF), OPT(IPPROTO_IPV6, IPV6_TCLASS),
	OPT(IPPROTO_IPV6, IPV6_RECVPKTINFO), OPT(IPPROTO_IPV6, IPV6_RECVHOPLIMIT), OPT(IPPROTO_IPV6, IPV6_RECVTCLASS),
	OPT(IPPROTO_IPV6, IPV6_RECVERR), OPT(IPPROTO_IPV6, IPV6_MTU_DISCOVER), OPT(IPPROTO_IPV6, IPV6_MTU),
	OPT(IPPROTO_IPV6, IPV6_DONTFRAG), OPT(IPPROTO_IPV6, IPV6_FREEBIND), OPT(IPPROTO_IPV6, IPV6_TRANSPARENT),
	OPT(IPPROTO_IPV6, IPV6_RECVPATHMTU), OPT(IPPROTO_IPV6, IPV6_AUTOFLOWLABEL), OPT(IPPROTO_IPV6, IPV6_RECVORIGDSTADDR),
	OPT(IPPROTO_IPV6, IPV6_MINHOPCOUNT), OPT(IPPROTO_IPV6, IPV6_MULTICAST_ALL), OPT(IPPROTO_IPV6, IPV6_UNICAST_IF),
	OPT(IPPROTO_IPV6, IPV6_RECVRTHDR), OPT(IPPROTO_IPV6, IPV6_ADDR_PREFERENCES), {IPPROTO_IPV6, 999, "unknown option 999"},
};

int main(void)
{
	static const int values[] = {0, 1, 2, 64, 255, 256, -1, -2, 1000};
	static const int picked[] = {0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 18, 19, 23};

	begin();
	for (int i = 0; i < COUNT(option_sockets); i++) {
		say("-- %s", option_sockets[i].label);
		int s = must(socket(option_sockets[i].family, option_sockets[i].type, 0));
		option_defaults(s, all, COUNT(all));
		for (int k = 0; k < COUNT(picked); k++)
			option_values(s, &all[picked[k]], values, COUNT(values));
		option_sizes(s, &all[0]);
		option_sizes(s, &all[1]);
		must(close(s));
	}
	say("-- after bind");
	int l = listener(AF_INET6, 1), p[2];
	T(set_int(l, IPPROTO_IPV6, IPV6_V6ONLY, 0));
	say("-- IPV6_MTU of a connection");
	tcp_pair(AF_INET6, p);
	say("%d", get_int(p[0], IPPROTO_IPV6, IPV6_MTU));
	say("-- inherited by accept");
	must(set_int(l, IPPROTO_IPV6, IPV6_TCLASS, 0x20));
	must(set_int(l, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 33));
	dial(l);
	int a = must(accept(l, NULL, NULL));
	say("IPV6_TCLASS %d IPV6_UNICAST_HOPS %d", get_int(a, IPPROTO_IPV6, IPV6_TCLASS), get_int(a, IPPROTO_IPV6, IPV6_UNICAST_HOPS));
	say("-- IPV6_ADDRFORM");
	T(set_int(p[0], IPPROTO_IPV6, IPV6_ADDRFORM, AF_INET));
	return 0;
}

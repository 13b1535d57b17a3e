/* opts_ip: the options of IPPROTO_IP, on sockets of both families. */
#include "options.h"

#ifndef IP_BIND_ADDRESS_NO_PORT
#define IP_BIND_ADDRESS_NO_PORT 24
#endif
#ifndef IP_RECVERR_RFC4884
#define IP_RECVERR_RFC4884 26
#endif

static const struct option all[] = {
	OPT(IPPROTO_IP, IP_TOS), OPT(IPPROTO_IP, IP_TTL), OPT(IPPROTO_IP, IP_HDRINCL), OPT(IPPROTO_IP, IP_ROUTER_ALERT),
	OPT(IPPROTO_IP, IP_RECVOPTS), OPT(IPPROTO_IP, IP_RETOPTS), OPT(IPPROTO_IP, IP_PKTINFO), OPT(IPPROTO_IP, IP_MTU_DISCOVER),
	OPT(IPPROTO_IP, IP_RECVERR), OPT(IPPROTO_IP, IP_RECVTTL), OPT(IPPROTO_IP, IP_RECVTOS), OPT(IPPROTO_IP, IP_MTU),
	OPT(IPPROTO_IP, IP_FREEBIND), OPT(IPPROTO_IP, IP_PASSSEC), OPT(IPPROTO_IP, IP_TRANSPARENT), OPT(IPPROTO_IP, IP_RECVORIGDSTADDR),
	OPT(IPPROTO_IP, IP_MINTTL), OPT(IPPROTO_IP, IP_NODEFRAG), OPT(IPPROTO_IP, IP_CHECKSUM), OPT(IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT),
	OPT(IPPROTO_IP, IP_MULTICAST_TTL), OPT(IPPROTO_IP, IP_MULTICAST_LOOP), OPT(IPPROTO_IP, IP_MULTICAST_ALL),
	OPT(IPPROTO_IP, IP_MULTICAST_IF), OPT(IPPROTO_IP, IP_UNICAST_IF), OPT(IPPROTO_IP, IP_RECVFRAGSIZE), {IPPROTO_IP, 999, "unknown option 999"},
};

int main(void)
{
	static const int values[] = {0, 1, 2, 64, 255, 256, -1, -2, 1000};
	static const int picked[] = {0, 1, 6, 7, 8, 9, 10, 12, 14, 16, 19, 20, 21, 22, 26};
	char b[64];

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
	say("-- IP_TOS keeps off the ECN bits of TCP");
	int s = must(socket(AF_INET, SOCK_STREAM, 0)), u = must(socket(AF_INET, SOCK_DGRAM, 0));
	static const int tos[] = {0x10, 0xff, 0x03, 0xb8};
	static const struct option o = OPT(IPPROTO_IP, IP_TOS);
	option_values(s, &o, tos, COUNT(tos));
	option_values(u, &o, tos, COUNT(tos));
	say("-- IP_MTU needs a connection");
	int p[2];
	tcp_pair(AF_INET, p);
	say("TCP %d", get_int(p[0], IPPROTO_IP, IP_MTU));
	struct addr to = ip4("127.0.0.1", 9);
	must(connect(u, &to.sa, to.len));
	say("UDP %d", get_int(u, IPPROTO_IP, IP_MTU));
	say("-- IP_OPTIONS");
	socklen_t n = sizeof b;
	T(getsockopt(s, IPPROTO_IP, IP_OPTIONS, b, &n));
	say("length %u", (unsigned)n);
	T(setsockopt(s, IPPROTO_IP, IP_OPTIONS, NULL, 0));
	T(setsockopt(s, IPPROTO_IP, IP_OPTIONS, b, 44));
	n = sizeof b;
	T(getsockopt(s, IPPROTO_IP, IP_PKTOPTIONS, b, &n));
	return 0;
}

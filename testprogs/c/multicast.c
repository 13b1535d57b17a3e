/* multicast: membership on the loopback interface, loop, and both families. */
#include "common.h"
#include <net/if.h>

static void receive(const char *label, int fd)
{
	char b[32];

	set_timeo(fd, SO_RCVTIMEO, 200);
	ssize_t n = recv(fd, b, sizeof b, 0);
	say("%s: %s%s%.*s", label, outcome(n, errno), n > 0 ? " " : "", n > 0 ? (int)n : 0, b);
}

int main(void)
{
	struct ip_mreq mr = {.imr_multiaddr.s_addr = inet_addr("239.1.2.3"), .imr_interface.s_addr = inet_addr("127.0.0.1")};
	struct ip_mreqn mn = {.imr_multiaddr.s_addr = inet_addr("239.1.2.4"), .imr_ifindex = 1};
	struct in_addr lo = {inet_addr("127.0.0.1")}, got;
	socklen_t n = sizeof got;

	begin();
	say("-- IPv4");
	int u = must(socket(AF_INET, SOCK_DGRAM, 0)), s = must(socket(AF_INET, SOCK_DGRAM, 0));
	struct addr any = ip4("0.0.0.0", 7801), group = ip4("239.1.2.3", 7801);
	must(bind(u, &any.sa, any.len));
	T(setsockopt(s, IPPROTO_IP, IP_MULTICAST_IF, &lo, sizeof lo));
	T(getsockopt(s, IPPROTO_IP, IP_MULTICAST_IF, &got, &n));
	say("interface %s", inet_ntoa(got));
	T(sendto(s, "before", 6, 0, &group.sa, group.len));
	receive("before joining", u);
	T(setsockopt(u, IPPROTO_IP, IP_ADD_MEMBERSHIP, &mr, sizeof mr));
	T(setsockopt(u, IPPROTO_IP, IP_ADD_MEMBERSHIP, &mr, sizeof mr));
	T(sendto(s, "joined", 6, 0, &group.sa, group.len));
	receive("joined", u);
	T(set_int(s, IPPROTO_IP, IP_MULTICAST_LOOP, 0));
	T(get_int(s, IPPROTO_IP, IP_MULTICAST_LOOP));
	T(set_int(s, IPPROTO_IP, IP_MULTICAST_LOOP, 1));
	T(set_int(s, IPPROTO_IP, IP_MULTICAST_TTL, 5));
	T(get_int(s, IPPROTO_IP, IP_MULTICAST_TTL));
	T(setsockopt(u, IPPROTO_IP, IP_ADD_MEMBERSHIP, &mn, sizeof mn));
	group = ip4("239.1.2.4", 7801);
	T(sendto(s, "by index", 8, 0, &group.sa, group.len));
	receive("joined by index", u);
	T(setsockopt(u, IPPROTO_IP, IP_DROP_MEMBERSHIP, &mr, sizeof mr));
	T(setsockopt(u, IPPROTO_IP, IP_DROP_MEMBERSHIP, &mr, sizeof mr));
	group = ip4("239.1.2.3", 7801);
	T(sendto(s, "left", 4, 0, &group.sa, group.len));
	receive("left", u);
	say("-- two members");
	int v = must(socket(AF_INET, SOCK_DGRAM, 0)), w = must(socket(AF_INET, SOCK_DGRAM, 0));
	must(set_int(v, SOL_SOCKET, SO_REUSEADDR, 1));
	must(set_int(w, SOL_SOCKET, SO_REUSEADDR, 1));
	group = ip4("239.1.2.5", 7802);
	T(bind(v, &group.sa, group.len));
	T(bind(w, &group.sa, group.len));
	mr.imr_multiaddr.s_addr = inet_addr("239.1.2.5");
	T(setsockopt(v, IPPROTO_IP, IP_ADD_MEMBERSHIP, &mr, sizeof mr));
	T(setsockopt(w, IPPROTO_IP, IP_ADD_MEMBERSHIP, &mr, sizeof mr));
	T(sendto(s, "to both", 7, 0, &group.sa, group.len));
	receive("first", v);
	receive("second", w);
	say("-- wrong values");
	mr.imr_multiaddr.s_addr = inet_addr("10.0.0.1");
	T(setsockopt(u, IPPROTO_IP, IP_ADD_MEMBERSHIP, &mr, sizeof mr));
	T(setsockopt(u, IPPROTO_IP, IP_ADD_MEMBERSHIP, &mr, 4));
	mn.imr_ifindex = 999;
	T(setsockopt(u, IPPROTO_IP, IP_ADD_MEMBERSHIP, &mn, sizeof mn));
	lo.s_addr = inet_addr("192.0.2.1");
	T(setsockopt(s, IPPROTO_IP, IP_MULTICAST_IF, &lo, sizeof lo));

	say("-- IPv6");
	u = must(socket(AF_INET6, SOCK_DGRAM, 0)), s = must(socket(AF_INET6, SOCK_DGRAM, 0));
	any = ip6("::", 7803), group = ip6("ff01::1234", 7803);
	must(bind(u, &any.sa, any.len));
	struct ipv6_mreq m6 = {.ipv6mr_multiaddr = group.v6.sin6_addr, .ipv6mr_interface = 1};
	T(set_int(s, IPPROTO_IPV6, IPV6_MULTICAST_IF, 1));
	T(get_int(s, IPPROTO_IPV6, IPV6_MULTICAST_IF));
	T(setsockopt(u, IPPROTO_IPV6, IPV6_JOIN_GROUP, &m6, sizeof m6));
	T(setsockopt(u, IPPROTO_IPV6, IPV6_JOIN_GROUP, &m6, sizeof m6));
	/* nothing is sent: Linux has no multicast route on lo for IPv6 */
	T(setsockopt(u, IPPROTO_IPV6, IPV6_LEAVE_GROUP, &m6, sizeof m6));
	T(setsockopt(u, IPPROTO_IPV6, IPV6_LEAVE_GROUP, &m6, sizeof m6));
	T(set_int(s, IPPROTO_IPV6, IPV6_MULTICAST_IF, 999));
	return 0;
}

/* pktinfo: ancillary data that say where a datagram was sent, and that choose its source. */
#include "common.h"
#include <net/if.h>

static void show(struct msghdr *m)
{
	char ip[64];

	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
		unsigned len = c->cmsg_len - CMSG_LEN(0);
		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			struct in_pktinfo *p = (void *)CMSG_DATA(c);
			char ip2[64];
			say("IP_PKTINFO: interface %d, to %s, local %s", p->ipi_ifindex, inet_ntop(AF_INET, &p->ipi_addr, ip, sizeof ip),
			    inet_ntop(AF_INET, &p->ipi_spec_dst, ip2, sizeof ip2));
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			struct in6_pktinfo *p = (void *)CMSG_DATA(c);
			say("IPV6_PKTINFO: interface %d, to %s", p->ipi6_ifindex, inet_ntop(AF_INET6, &p->ipi6_addr, ip, sizeof ip));
		} else if (c->cmsg_level == SOL_SOCKET && (c->cmsg_type == SO_TIMESTAMP || c->cmsg_type == SO_TIMESTAMPNS)) {
			say("SOL_SOCKET time %s, %u bytes", c->cmsg_type == SO_TIMESTAMP ? "SO_TIMESTAMP" : "SO_TIMESTAMPNS", len);
		} else {
			int v = 0;
			memcpy(&v, CMSG_DATA(c), len < 4 ? len : 4);
			say("level %d type %d, %u bytes: %d", c->cmsg_level, c->cmsg_type, len, v);
		}
	}
}

static void receive(int u, size_t room)
{
	char b[32], ctl[512];
	struct iovec iov = {b, sizeof b};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = ctl, .msg_controllen = room};

	ssize_t n = recvmsg(u, &m, 0);
	say("recvmsg: %s, flags %#x, %s", outcome(n, errno), m.msg_flags, m.msg_controllen ? "control" : "no control");
	show(&m);
}

int main(void)
{
	char ctl[128];
	struct iovec iov = {"chosen", 6};

	begin();
	say("-- IPv4");
	int u = must(socket(AF_INET, SOCK_DGRAM, 0)), s = must(socket(AF_INET, SOCK_DGRAM, 0));
	struct addr any = ip4("0.0.0.0", 7601), to = ip4("127.0.0.3", 7601);
	must(bind(u, &any.sa, any.len));
	must(sendto(s, "x", 1, 0, &to.sa, to.len));
	receive(u, 512);
	T(set_int(u, IPPROTO_IP, IP_PKTINFO, 1));
	must(sendto(s, "x", 1, 0, &to.sa, to.len));
	receive(u, 512);
	must(sendto(s, "x", 1, 0, &to.sa, to.len));
	receive(u, 8);
	must(sendto(s, "x", 1, 0, &to.sa, to.len));
	receive(u, CMSG_LEN(4));
	must(sendto(s, "x", 1, 0, &to.sa, to.len));
	receive(u, 0);
	T(set_int(u, IPPROTO_IP, IP_RECVTTL, 1));
	T(set_int(u, IPPROTO_IP, IP_RECVTOS, 1));
	T(set_int(s, IPPROTO_IP, IP_TOS, 0x20));
	T(set_int(s, IPPROTO_IP, IP_TTL, 33));
	must(sendto(s, "x", 1, 0, &to.sa, to.len));
	receive(u, 512);
	T(set_int(u, SOL_SOCKET, SO_TIMESTAMP, 1));
	must(sendto(s, "x", 1, 0, &to.sa, to.len));
	receive(u, 512);
	T(set_int(u, IPPROTO_IP, IP_RECVORIGDSTADDR, 1));
	must(sendto(s, "x", 1, 0, &to.sa, to.len));
	receive(u, 512);

	say("-- the source chosen by IP_PKTINFO");
	memset(ctl, 0, sizeof ctl);
	struct addr dst = ip4("127.0.0.1", 7602), from = {.len = sizeof from.ss};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_name = &dst.sa, .msg_namelen = dst.len, .msg_control = ctl,
			   .msg_controllen = CMSG_SPACE(sizeof(struct in_pktinfo))};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	c->cmsg_level = IPPROTO_IP, c->cmsg_type = IP_PKTINFO, c->cmsg_len = CMSG_LEN(sizeof(struct in_pktinfo));
	((struct in_pktinfo *)CMSG_DATA(c))->ipi_spec_dst.s_addr = inet_addr("127.0.0.9");
	int r = must(socket(AF_INET, SOCK_DGRAM, 0));
	must(bind(r, &dst.sa, dst.len));
	T(sendmsg(u, &m, 0));
	char b[16];
	T(recvfrom(r, b, sizeof b, 0, &from.sa, &from.len));
	say("from %s", aname(&from));

	say("-- IPv6");
	u = must(socket(AF_INET6, SOCK_DGRAM, 0)), s = must(socket(AF_INET6, SOCK_DGRAM, 0));
	any = ip6("::", 7603), to = ip6("::1", 7603);
	must(bind(u, &any.sa, any.len));
	T(set_int(u, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1));
	must(sendto(s, "x", 1, 0, &to.sa, to.len));
	receive(u, 512);
	T(set_int(u, IPPROTO_IPV6, IPV6_RECVHOPLIMIT, 1));
	T(set_int(u, IPPROTO_IPV6, IPV6_RECVTCLASS, 1));
	T(set_int(s, IPPROTO_IPV6, IPV6_TCLASS, 0x40));
	T(set_int(s, IPPROTO_IPV6, IPV6_UNICAST_HOPS, 44));
	must(sendto(s, "x", 1, 0, &to.sa, to.len));
	receive(u, 512);
	say("-- a mapped datagram on a dual-stack socket");
	to = ip4("127.0.0.1", 7603);
	s = must(socket(AF_INET, SOCK_DGRAM, 0));
	must(sendto(s, "x", 1, 0, &to.sa, to.len));
	receive(u, 512);
	say("-- hop limit and class by message");
	memset(ctl, 0, sizeof ctl);
	s = must(socket(AF_INET6, SOCK_DGRAM, 0));
	to = ip6("::1", 7603);
	m.msg_name = &to.sa, m.msg_namelen = to.len, m.msg_controllen = CMSG_SPACE(4);
	c->cmsg_level = IPPROTO_IPV6, c->cmsg_type = IPV6_HOPLIMIT, c->cmsg_len = CMSG_LEN(4);
	*(int *)CMSG_DATA(c) = 55;
	T(sendmsg(s, &m, 0));
	receive(u, 512);
	say("-- ancillary data that TCP does not know");
	int p[2];
	tcp_pair(AF_INET, p);
	m.msg_name = NULL, m.msg_namelen = 0;
	c->cmsg_level = SOL_SOCKET, c->cmsg_type = SCM_RIGHTS, c->cmsg_len = CMSG_LEN(4);
	*(int *)CMSG_DATA(c) = 1;
	T(sendmsg(p[0], &m, 0));
	T(sendmsg(s, &m, 0));
	return 0;
}

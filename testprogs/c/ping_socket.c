/* ping_socket: ICMP echo sockets (SOCK_DGRAM, IPPROTO_ICMP), as ping uses them without privilege. */
#include "common.h"
#include <netinet/icmp6.h>
#include <netinet/ip_icmp.h>

static void run(int family)
{
	struct addr to = loop(family, 0), from = {.len = sizeof from.ss};
	unsigned char m[16] = {family == AF_INET ? ICMP_ECHO : ICMP6_ECHO_REQUEST}, b[128];

	say("-- %s", family == AF_INET ? "IPv4" : "IPv6");
	int s = F(socket(family, SOCK_DGRAM, family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6));
	if (s < 0)
		return;
	set_timeo(s, SO_RCVTIMEO, 1000);
	memcpy(m + 8, "payload", 8);
	m[7] = 5;
	T(sendto(s, m, sizeof m, 0, &to.sa, to.len));
	ssize_t n = recvfrom(s, b, sizeof b, 0, &from.sa, &from.len);
	say("%s bytes from %s: type %d sequence %d %s", outcome(n, errno), aname(&from), b[0], b[7], b + 8);
	mask("idle", s, POLLOUT);
	T(connect(s, &to.sa, to.len));
	T(send(s, m, sizeof m, 0));
	mask("answered", s, POLLIN | POLLOUT);
	T(recv(s, b, sizeof b, 0));
	m[0] = 99;
	T(send(s, m, sizeof m, 0));
	settle(s);
	T(send(s, m, 4, 0));
	settle(s);
	T(listen(s, 1));
	say("SO_TYPE %d SO_PROTOCOL %d", get_int(s, SOL_SOCKET, SO_TYPE), get_int(s, SOL_SOCKET, SO_PROTOCOL));
	int k = F(socket(family, SOCK_DGRAM, family == AF_INET ? IPPROTO_ICMPV6 : IPPROTO_ICMP));
	(void)k;
	struct addr id = loop(family, 4321);
	int t = must(socket(family, SOCK_DGRAM, family == AF_INET ? IPPROTO_ICMP : IPPROTO_ICMPV6));
	T(bind(t, &id.sa, id.len));
	say("local %s", localname(t));
}

int main(void)
{
	begin();
	run(AF_INET);
	run(AF_INET6);
	return 0;
}

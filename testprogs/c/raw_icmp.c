/* raw_icmp: raw sockets: ICMP echo by hand, and a protocol of its own. Needs root. */
#include "common.h"
#include <netinet/icmp6.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>

static uint16_t sum16(const void *p, size_t n)
{
	const uint8_t *b = p;
	uint32_t s = 0;

	for (size_t i = 0; i + 1 < n; i += 2)
		s += b[i] << 8 | b[i + 1];
	while (s >> 16)
		s = (s & 0xffff) + (s >> 16);
	return htons(~s);
}

/* echo sends a request and reads until the answer comes. */
static void echo4(int s)
{
	struct addr to = ip4("127.0.0.1", 0), from = {.len = sizeof from.ss};
	struct {
		struct icmphdr h;
		char data[8];
	} m = {.h = {.type = ICMP_ECHO, .un.echo = {htons(77), htons(3)}}, .data = "payload"};
	char b[256];

	m.h.checksum = sum16(&m, sizeof m);
	T(sendto(s, &m, sizeof m, 0, &to.sa, to.len));
	for (int i = 0; i < 4; i++) {
		ssize_t n = recvfrom(s, b, sizeof b, 0, &from.sa, &from.len);
		if (n < 0) {
			say("recvfrom: %s", ename(errno));
			return;
		}
		struct iphdr *ip = (void *)b;
		struct icmphdr *h = (void *)(b + ip->ihl * 4);
		say("%zd bytes from %s: version %d protocol %d type %d id %d sequence %d %s", n, aname(&from), ip->version, ip->protocol, h->type,
		    ntohs(h->un.echo.id), ntohs(h->un.echo.sequence), (char *)(h + 1));
		if (h->type == ICMP_ECHOREPLY)
			return;
	}
}

static void echo6(int s)
{
	struct addr to = ip6("::1", 0), from = {.len = sizeof from.ss};
	struct {
		struct icmp6_hdr h;
		char data[8];
	} m = {.h = {.icmp6_type = ICMP6_ECHO_REQUEST}, .data = "payload"};
	char b[256];

	m.h.icmp6_id = htons(78);
	T(sendto(s, &m, sizeof m, 0, &to.sa, to.len));
	for (int i = 0; i < 4; i++) {
		ssize_t n = recvfrom(s, b, sizeof b, 0, &from.sa, &from.len);
		if (n < 0) {
			say("recvfrom: %s", ename(errno));
			return;
		}
		struct icmp6_hdr *h = (void *)b;
		say("%zd bytes from %s: type %d id %d %s", n, aname(&from), h->icmp6_type, ntohs(h->icmp6_id), (char *)(h + 1));
		if (h->icmp6_type == ICMP6_ECHO_REPLY)
			return;
	}
}

int main(void)
{
	char b[256];

	begin();
	int s = F(socket(AF_INET, SOCK_RAW, IPPROTO_ICMP));
	if (s < 0)
		return 0;
	set_timeo(s, SO_RCVTIMEO, 1000);
	say("local %s", localname(s));
	echo4(s);
	int s6 = F(socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6));
	set_timeo(s6, SO_RCVTIMEO, 1000);
	echo6(s6);

	say("-- a protocol of its own");
	int x = F(socket(AF_INET, SOCK_RAW, 253)), y = F(socket(AF_INET, SOCK_RAW, 253));
	struct addr a = ip4("127.0.0.7", 0), from = {.len = sizeof from.ss};
	T(bind(y, &a.sa, a.len));
	set_timeo(y, SO_RCVTIMEO, 1000);
	T(sendto(x, "raw data", 8, 0, &a.sa, a.len));
	ssize_t n = recvfrom(y, b, sizeof b, 0, &from.sa, &from.len);
	say("%s bytes from %s: %.8s", outcome(n, errno), aname(&from), n > 20 ? b + 20 : "");
	T(connect(x, &a.sa, a.len));
	T(send(x, "connected", 9, 0));
	n = recv(y, b, sizeof b, 0);
	say("%s bytes: %.9s", outcome(n, errno), n > 20 ? b + 20 : "");
	say("peer %s", peername(x));
	T(socket(AF_INET, SOCK_RAW, 0));
	T(listen(x, 1));
	T(shutdown(x, SHUT_WR));
	say("IP_HDRINCL %d", get_int(x, IPPROTO_IP, IP_HDRINCL));
	int w = F(socket(AF_INET, SOCK_RAW, IPPROTO_RAW));
	say("IP_HDRINCL of IPPROTO_RAW %d", get_int(w, IPPROTO_IP, IP_HDRINCL));
	return 0;
}

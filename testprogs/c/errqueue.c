/* errqueue: IP_RECVERR and IPV6_RECVERR, and the queue read by MSG_ERRQUEUE. */
#include "common.h"
#include <linux/errqueue.h>

static void queue(int fd)
{
	char b[64], ctl[512];
	struct addr name;
	struct iovec iov = {b, sizeof b};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = ctl, .msg_controllen = sizeof ctl, .msg_name = &name.sa,
			   .msg_namelen = sizeof name.ss};
	ssize_t n = recvmsg(fd, &m, MSG_ERRQUEUE);

	say("error queue: %s", outcome(n, errno));
	if (n < 0)
		return;
	name.len = m.msg_namelen;
	say("flags %#x, data %.*s, to %s", m.msg_flags, (int)n, b, aname(&name));
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		struct sock_extended_err *e = (void *)CMSG_DATA(c);
		struct addr off = {.len = sizeof off.v6};
		memcpy(&off.ss, SO_EE_OFFENDER(e), sizeof off.v6);
		if (off.sa.sa_family == AF_INET)
			off.len = sizeof off.v4;
		say("level %d type %d: %s origin %u type %u code %u info %u, by %s", c->cmsg_level, c->cmsg_type, ename(e->ee_errno), e->ee_origin,
		    e->ee_type, e->ee_code, e->ee_info, aname(&off));
	}
}

static void run(int family)
{
	char b[16];

	say("-- %s", family == AF_INET ? "IPv4" : "IPv6");
	int gone = udp_on(family);
	struct addr to = local(gone);
	must(close(gone));
	msleep(20);
	int s = must(socket(family, SOCK_DGRAM, 0));
	T(set_int(s, family == AF_INET ? IPPROTO_IP : IPPROTO_IPV6, family == AF_INET ? IP_RECVERR : IPV6_RECVERR, 1));
	queue(s);
	T(sendto(s, "lost", 4, 0, &to.sa, to.len));
	mask("mask", s, POLLOUT | POLLERR);
	T(recv(s, b, sizeof b, MSG_DONTWAIT));
	queue(s);
	mask("mask after", s, POLLOUT);
	queue(s);
	T(sendto(s, "first", 5, 0, &to.sa, to.len));
	mask("mask", s, POLLOUT | POLLERR);
	T(sendto(s, "second", 6, 0, &to.sa, to.len));
	queue(s);
	say("-- connected");
	T(connect(s, &to.sa, to.len));
	T(send(s, "three", 5, 0));
	mask("mask", s, POLLOUT | POLLERR);
	say("SO_ERROR %s", so_error(s));
	queue(s);
}

int main(void)
{
	begin();
	run(AF_INET);
	run(AF_INET6);
	say("-- a datagram that is too large: reported locally");
	int s = must(socket(AF_INET, SOCK_DGRAM, 0));
	struct addr to = ip4("127.0.0.1", 9);
	static char big[65508];
	must(set_int(s, IPPROTO_IP, IP_RECVERR, 1));
	must(set_int(s, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_DO));
	T(sendto(s, big, sizeof big, 0, &to.sa, to.len));
	queue(s);
	say("-- TCP has none");
	int p[2];
	tcp_pair(AF_INET, p);
	queue(p[0]);
	return 0;
}

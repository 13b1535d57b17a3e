/* names: getsockname and getpeername, and address buffers that are too short or too long. */
#include "common.h"

static void shapes(const char *label, int fd, int (*fn)(int, struct sockaddr *, socklen_t *))
{
	static const unsigned lens[] = {0, 1, 2, 4, 8, 15, 16, 20, 24, 28, 100, 128};

	for (unsigned i = 0; i < sizeof lens / sizeof *lens; i++) {
		unsigned char b[256];
		socklen_t n = lens[i];
		memset(b, 0xAA, sizeof b);
		int r = fn(fd, (struct sockaddr *)b, &n);
		unsigned touched = 0;
		for (unsigned k = 0; k < sizeof b; k++)
			if (b[k] != 0xAA)
				touched = k + 1;
		say("%s, %u bytes: %s, length %u, written up to %s", label, lens[i], outcome(r, errno), (unsigned)n,
		    touched <= lens[i] ? "the limit" : "too far");
	}
	socklen_t n = -1;
	struct addr a;
	L("negative length", fn(fd, &a.sa, &n));
}

static int accept_from(int l, struct sockaddr *sa, socklen_t *n)
{
	int d = dial(l);
	int fd = accept(l, sa, n), e = errno;

	if (fd >= 0)
		must(close(fd));
	must(close(d));
	errno = e;
	return fd >= 0 ? 0 : -1;
}

static int recv_from(int u, struct sockaddr *sa, socklen_t *n)
{
	struct addr to = local(u);
	char c;

	must(sendto(u, "x", 1, 0, &to.sa, to.len));
	int r = recvfrom(u, &c, 1, 0, sa, n);
	return r;
}

int main(void)
{
	int p[2];

	begin();
	int s = must(socket(AF_INET, SOCK_STREAM, 0));
	say("fresh IPv4: local %s peer %s", localname(s), peername(s));
	s = must(socket(AF_INET6, SOCK_DGRAM, 0));
	say("fresh IPv6 UDP: local %s peer %s", localname(s), peername(s));
	tcp_pair(AF_INET, p);
	say("connected: peer's name is the other's own: %s",
	    local(p[0]).v4.sin_port == ({ struct addr a = {.len = sizeof a.ss}; must(getpeername(p[1], &a.sa, &a.len)); a; }).v4.sin_port ? "yes" : "no");
	shapes("getsockname IPv4", p[0], getsockname);
	shapes("getpeername IPv4", p[0], getpeername);
	tcp_pair(AF_INET6, p);
	shapes("getsockname IPv6", p[0], getsockname);
	shapes("getpeername IPv6", p[1], getpeername);
	int l = listener(AF_INET, 4);
	shapes("accept IPv4", l, accept_from);
	l = listener(AF_INET6, 4);
	shapes("accept IPv6", l, accept_from);
	shapes("recvfrom IPv4", udp_on(AF_INET), recv_from);
	shapes("recvfrom IPv6", udp_on(AF_INET6), recv_from);

	say("-- after the peer went");
	tcp_pair(AF_INET, p);
	must(close(p[1]));
	msleep(20);
	say("peer %s", peername(p[0]));
	must(shutdown(p[0], SHUT_WR));
	msleep(20);
	say("peer %s local %s", peername(p[0]), localname(p[0]));
	say("-- sin_zero is zero");
	struct addr a = {.len = sizeof a.ss};
	memset(&a.ss, 0xAA, sizeof a.ss);
	must(getsockname(l, &a.sa, &a.len));
	say("flow %u scope %u", a.v6.sin6_flowinfo, a.v6.sin6_scope_id);
	l = listener(AF_INET, 1);
	memset(&a.ss, 0xAA, sizeof a.ss);
	a.len = sizeof a.ss;
	must(getsockname(l, &a.sa, &a.len));
	say("sin_zero %s", memcmp(a.v4.sin_zero, "\0\0\0\0\0\0\0", 8) ? "is not" : "is zero");
	return 0;
}

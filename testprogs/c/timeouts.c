/* timeouts: SO_RCVTIMEO and SO_SNDTIMEO on accept, recv, recvfrom and send. */
#include "common.h"

static const char *about(long long ms)
{
	char *s = scratch();

	if (ms >= 90 && ms < 1500)
		return "in time";
	snprintf(s, 512, "after %lld ms", ms);
	return s;
}

#define TIMED(expr) do {                                         \
	long long t_ = now_ms();                                 \
	errno = 0;                                               \
	long r_ = (long)(expr);                                  \
	int e_ = errno;                                          \
	say("%s: %s, %s", #expr, outcome(r_, e_), about(now_ms() - t_)); \
} while (0)

int main(void)
{
	int p[2];
	char b[16];
	static char big[1 << 20];
	struct addr from = {.len = sizeof from.ss};
	struct iovec iov = {b, sizeof b};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

	begin();
	tcp_pair(AF_INET, p);
	set_timeo(p[1], SO_RCVTIMEO, 100);
	TIMED(read(p[1], b, 1));
	TIMED(recv(p[1], b, 1, 0));
	TIMED(recvfrom(p[1], b, 1, 0, &from.sa, &from.len));
	TIMED(recvmsg(p[1], &m, 0));
	TIMED(readv(p[1], &iov, 1));
	must(write(p[0], "abc", 3));
	TIMED(recv(p[1], b, 10, MSG_WAITALL));
	set_timeo(p[0], SO_SNDTIMEO, 100);
	long r;
	while ((r = write(p[0], big, sizeof big)) > 0)
		;
	say("write to a full queue: %s", outcome(r, errno));
	TIMED(send(p[0], big, sizeof big, 0));

	int l = listener(AF_INET6, 2);
	set_timeo(l, SO_RCVTIMEO, 100);
	TIMED(accept(l, NULL, NULL));
	from.len = sizeof from.ss;
	TIMED(accept(l, &from.sa, &from.len));
	TIMED(accept4(l, NULL, NULL, SOCK_CLOEXEC));

	int u = udp_on(AF_INET);
	set_timeo(u, SO_RCVTIMEO, 100);
	TIMED(recv(u, b, 1, 0));
	TIMED(recvfrom(u, b, 1, 0, &from.sa, &from.len));
	TIMED(recvmsg(u, &m, 0));
	TIMED(read(u, b, 1));

	say("-- a copy has it too");
	int c = must(dup(u));
	TIMED(recv(c, b, 1, 0));
	say("-- accepted sockets inherit it");
	int d = dial(l);
	int a = must(accept(l, NULL, NULL));
	struct timeval tv;
	socklen_t n = sizeof tv;
	T(getsockopt(a, SOL_SOCKET, SO_RCVTIMEO, &tv, &n));
	say("%ld.%06ld", (long)tv.tv_sec, (long)tv.tv_usec);
	must(close(d));
	say("-- bad values");
	tv = (struct timeval){0, 1000000};
	T(setsockopt(u, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
	tv = (struct timeval){-1, 0};
	T(setsockopt(u, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
	T(setsockopt(u, SOL_SOCKET, SO_RCVTIMEO, &tv, 8));
	T(setsockopt(u, SOL_SOCKET, SO_SNDTIMEO, &tv, 4));
	tv = (struct timeval){0, 0};
	T(setsockopt(u, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof tv));
	T(getsockopt(u, SOL_SOCKET, SO_RCVTIMEO, &tv, &n));
	say("%ld.%06ld, %u bytes", (long)tv.tv_sec, (long)tv.tv_usec, (unsigned)n);
	return 0;
}

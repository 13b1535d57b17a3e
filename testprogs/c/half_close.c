/* half_close: one direction ends while the other goes on. */
#include "common.h"

static void run(int family)
{
	int p[2];
	char c;

	say("-- %s", family == AF_INET ? "IPv4" : "IPv6");
	tcp_pair(family, p);
	must(write(p[0], "question", 8));
	T(shutdown(p[0], SHUT_WR));
	say("read: %s", read_text(p[1], 8));
	T(read(p[1], &c, 1));
	T(read(p[1], &c, 1));
	for (int i = 0; i < 3; i++) {
		must(write(p[1], "answer", 6));
		say("read: %s", read_text(p[0], 6));
	}
	T(write(p[0], "x", 1));
	T(send(p[0], "x", 1, MSG_NOSIGNAL));
	T(shutdown(p[0], SHUT_WR));
	T(shutdown(p[1], SHUT_WR));
	T(read(p[0], &c, 1));
	T(shutdown(p[0], SHUT_RDWR));
	say("peer: %s", peername(p[0]));
	must(close(p[0]));
	must(close(p[1]));

	say("-- data after the FIN's sender closed");
	tcp_pair(family, p);
	must(close(p[0]));
	T(read(p[1], &c, 1));
	T(write(p[1], "a", 1));
	mask("RST for it", p[1], POLLIN | POLLOUT | POLLERR | POLLHUP | POLLRDHUP);
	T(write(p[1], "b", 1));
	T(write(p[1], "c", 1));
	L("read after that", read(p[1], &c, 1));
	must(close(p[1]));

	say("-- SHUT_RD");
	tcp_pair(family, p);
	must(write(p[1], "before", 6));
	await(p[0], POLLIN);
	T(shutdown(p[0], SHUT_RD));
	say("read: %s", read_text(p[0], 6));
	T(read(p[0], &c, 1));
	T(write(p[0], "still", 5));
	say("read: %s", read_text(p[1], 5));
	must(close(p[0]));
	must(close(p[1]));

	say("-- a large answer after the half-close");
	tcp_pair(family, p);
	pid_t pid = xfork();
	if (pid == 0) {
		static char buf[1 << 16];
		uint64_t at = 0;
		must(close(p[0]));
		while (read(p[1], &c, 1) > 0)
			;
		for (int i = 0; i < 32; i++) {
			pattern(buf, sizeof buf, at);
			write_all(p[1], buf, sizeof buf);
			at += sizeof buf;
		}
		_exit(0);
	}
	must(close(p[1]));
	write_all(p[0], "get", 3);
	T(shutdown(p[0], SHUT_WR));
	static char buf[1 << 16];
	uint64_t sum = 0, total = 0;
	ssize_t n;
	while ((n = read(p[0], buf, sizeof buf)) > 0) {
		sum = checksum(sum, buf, n);
		total += n;
	}
	say("end: %zd, %llu bytes, sum %016llx", n, (unsigned long long)total, (unsigned long long)sum);
	say("child: %s", join(pid));
	must(close(p[0]));
}

int main(void)
{
	begin();
	signal(SIGPIPE, SIG_IGN);
	run(AF_INET);
	run(AF_INET6);
	return 0;
}

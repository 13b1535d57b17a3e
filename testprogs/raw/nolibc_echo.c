/* nolibc_echo: a forked echo server and its client by system calls alone. */
#include "nolibc.h"

int main(void)
{
	struct sockaddr_in a = at(7901);
	char b[64];
	int status = 0;

	lifetime();
	long l = fd("socket", SYS(__NR_socket, AF_INET, SOCK_STREAM, 0));
	line("bind", SYS(__NR_bind, l, &a, sizeof a));
	line("listen", SYS(__NR_listen, l, 4));
	long pid = fork_();
	if (pid == 0) {
		lifetime();
		long c = SYS(__NR_accept4, l, 0, 0, 0), n;
		SYS(__NR_close, l);
		while ((n = SYS(__NR_read, c, b, sizeof b)) > 0)
			SYS(__NR_write, c, b, n);
		SYS(__NR_exit_group, n == 0 ? 11 : 12);
	}
	line("close the listener", SYS(__NR_close, l));
	long s = fd("socket", SYS(__NR_socket, AF_INET, SOCK_STREAM, 0));
	line("connect", SYS(__NR_connect, s, &a, sizeof a));
	for (int i = 0; i < 100; i++) {
		char out[10];
		memset(out, 'a' + i % 26, sizeof out);
		long n = SYS(__NR_sendto, s, out, sizeof out, 0, 0, 0);
		long got = 0;
		while (got < (long)sizeof out) {
			long r = SYS(__NR_recvfrom, s, b + got, sizeof out - got, 0, 0, 0);
			if (r <= 0)
				break;
			got += r;
		}
		if (n != got || b[9] != out[9])
			line("round failed", i);
	}
	line("shutdown", SYS(__NR_shutdown, s, 1));
	line("end", SYS(__NR_read, s, b, sizeof b));
	SYS(__NR_wait4, pid, &status, 0, 0);
	line("server's exit", status >> 8);
	s = SYS(__NR_socket, AF_INET, SOCK_STREAM, 0);
	line("connect when nobody listens", SYS(__NR_connect, s, &a, sizeof a));
	return 0;
}

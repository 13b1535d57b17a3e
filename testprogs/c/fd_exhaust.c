/* fd_exhaust: socket and accept at RLIMIT_NOFILE, and after room was made. */
#include "common.h"

int main(void)
{
	struct rlimit rl = {64, 64};
	int fds[128], n = 0, p[2];
	char c;

	begin();
	int l = listener(AF_INET, 8), u = udp_on(AF_INET);
	int d = dial(l);
	must(setrlimit(RLIMIT_NOFILE, &rl));
	while ((fds[n] = socket(n % 2 ? AF_INET : AF_INET6, n % 3 ? SOCK_STREAM : SOCK_DGRAM, 0)) >= 0)
		n++;
	say("socket: %s, highest is %d", ename(errno), fds[n - 1]);
	for (int i = 0; i < 3; i++) {
		T(socket(AF_INET, SOCK_STREAM, 0));
		T(accept(l, NULL, NULL));
		struct addr a = {.len = sizeof a.ss};
		T(accept(l, &a.sa, &a.len));
		T(accept4(l, NULL, NULL, SOCK_CLOEXEC));
		T(socketpair(AF_UNIX, SOCK_STREAM, 0, p));
		T(dup(u));
		T(pipe(p));
	}
	say("mask of the listener: %s", mname(mask_now(l)));
	must(close(fds[--n]));
	say("-- room for one");
	int a = F(accept(l, NULL, NULL));
	say("the number again: %s", a == fds[n] ? "yes" : "no");
	T(accept(l, NULL, NULL));
	must(write(d, "k", 1));
	T(read(a, &c, 1));
	must(close(a));
	T(read(d, &c, 1));
	say("-- closed sockets leave nothing behind");
	for (int i = 0; i < 200; i++) {
		int s = must(socket(AF_INET, SOCK_STREAM, 0));
		must(close(s));
	}
	for (int i = 0; i < 200; i++)
		must(close(must(socket(AF_INET6, SOCK_DGRAM, 0))));
	say("-- dup3, fcntl and dup2 over the limit");
	T(dup2(u, 64));
	T(dup3(u, 100, O_CLOEXEC));
	T(fcntl(u, F_DUPFD, 64));
	while (n > 0)
		must(close(fds[--n]));
	int x = F(socket(AF_INET, SOCK_STREAM, 0));
	struct addr to = local(l);
	T(connect(x, &to.sa, to.len));
	F(accept(l, NULL, NULL));
	return 0;
}

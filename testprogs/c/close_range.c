/* close_range: sockets closed, or marked, by close_range. */
#include "common.h"

int main(int argc, char **argv)
{
	int p[2], q[2];
	char c;

	if (argc > 1) {
		say("after exec: %s", fcntl(30, F_GETFD) < 0 ? ename(errno) : "open");
		return 0;
	}
	begin();
	tcp_pair(AF_INET, p);
	tcp_pair(AF_INET6, q);
	int l = listener(AF_INET, 3), u = udp_on(AF_INET);
	struct addr to = local(l), ut = local(u);
	must(dup2(p[1], 20));
	must(dup2(q[1], 21));
	must(dup2(l, 22));
	must(dup2(u, 23));
	must(close(p[1]));
	must(close(q[1]));
	must(close(l));
	must(close(u));
	T(close_range(20, 23, 0));
	T(read(p[0], &c, 1));
	T(read(q[0], &c, 1));
	int s = must(socket(AF_INET, SOCK_STREAM, 0));
	T(connect(s, &to.sa, to.len));
	u = must(socket(AF_INET, SOCK_DGRAM, 0));
	T(bind(u, &ut.sa, ut.len));
	T(write(20, "x", 1));
	T(close_range(25, 20, 0));
	T(close_range(20, 25, 99));

	say("-- CLOSE_RANGE_CLOEXEC");
	must(dup2(u, 30));
	T(close_range(30, 30, 4 /* CLOSE_RANGE_CLOEXEC */));
	say("FD_CLOEXEC %d", fcntl(30, F_GETFD));
	pid_t pid = xfork();
	if (pid == 0) {
		execl("/proc/self/exe", argv[0], "again", NULL);
		_exit(9);
	}
	say("child: %s", join(pid));

	say("-- CLOSE_RANGE_UNSHARE in a thread's table");
	tcp_pair(AF_INET, p);
	pid = xfork();
	if (pid == 0) {
		must(close_range(p[1], p[1], 2 /* CLOSE_RANGE_UNSHARE */));
		say("child: %s", fcntl(p[1], F_GETFD) < 0 ? ename(errno) : "open");
		_exit(0);
	}
	join(pid);
	T(write(p[1], "y", 1));
	T(read(p[0], &c, 1));
	return 0;
}

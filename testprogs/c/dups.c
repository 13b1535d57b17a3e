/* dups: dup, dup2, dup3 and F_DUPFD of sockets of every kind, the numbers given, and their flags. */
#include "common.h"

static void flags(const char *label, int fd)
{
	int fl = fcntl(fd, F_GETFL), fdf = fcntl(fd, F_GETFD);

	if (fl < 0)
		say("%s: %s", label, ename(errno));
	else
		say("%s: access %d%s%s, %s", label, fl & O_ACCMODE, fl & O_NONBLOCK ? " O_NONBLOCK" : "", fl & O_ASYNC ? " O_ASYNC" : "",
		    fdf & FD_CLOEXEC ? "FD_CLOEXEC" : "kept over exec");
}

int main(void)
{
	int p[2], q[2];
	char c;

	begin();
	say("-- numbers: the lowest free");
	int a = must(socket(AF_INET, SOCK_STREAM, 0)), b = must(socket(AF_INET, SOCK_DGRAM, 0)), d = must(socket(AF_INET6, SOCK_STREAM, 0));
	say("first %d, in order %d", a, b == a + 1 && d == b + 1);
	must(close(b));
	int e = must(socket(AF_INET6, SOCK_DGRAM, 0));
	say("reused %d", e == b);
	must(close(a));
	int l = listener(AF_INET, 2);
	say("reused %d", l == a);
	must(close(d));
	int x = dial(l);
	int y = must(accept(l, NULL, NULL));
	say("connected %d, accepted %d", x == d, y == d + 1);
	must(close(x));
	must(close(y));
	must(close(l));
	must(close(e));

	say("-- flags");
	flags("plain", must(socket(AF_INET, SOCK_STREAM, 0)));
	int s = must(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
	flags("both flags", s);
	flags("its dup", must(dup(s)));
	flags("its dup3", must(dup3(s, 50, O_CLOEXEC)));
	flags("its F_DUPFD", must(fcntl(s, F_DUPFD, 60)));
	flags("its F_DUPFD_CLOEXEC", must(fcntl(s, F_DUPFD_CLOEXEC, 60)));
	must(fcntl(s, F_SETFL, O_RDWR));
	flags("its dup after F_SETFL on it", 60);
	must(fcntl(60, F_SETFL, O_NONBLOCK));
	flags("it after F_SETFL on the dup", s);
	T(fcntl(s, F_DUPFD, 60));
	T(dup2(s, s));
	T(dup3(s, s, 0));
	T(dup2(s, -1));
	T(dup2(900, 5));
	T(dup3(s, 70, 1));
	T(fcntl(s, F_GETOWN));
	T(fcntl(s, F_SETPIPE_SZ, 4096));

	say("-- a connection by its copies");
	tcp_pair(AF_INET, p);
	int k = must(dup(p[0]));
	T(write(p[0], "1", 1));
	T(write(k, "2", 1));
	must(close(p[0]));
	T(write(k, "3", 1));
	say("read: %s", read_text(p[1], 3));
	say("names: %s", peername(k));
	must(dup2(k, 80));
	must(close(k));
	T(write(80, "4", 1));
	must(close(80));
	T(read(p[1], &c, 1));
	T(read(p[1], &c, 1));

	say("-- dup2 over a connection closes it");
	tcp_pair(AF_INET, p);
	tcp_pair(AF_INET6, q);
	T(dup2(q[0], p[0]) == p[0]);
	T(read(p[1], &c, 1));
	T(write(p[0], "x", 1));
	T(read(q[1], &c, 1));
	say("-- dup2 of a file over a listener closes it");
	l = listener(AF_INET, 2);
	struct addr to = local(l);
	must(dup2(1, l));
	s = must(socket(AF_INET, SOCK_STREAM, 0));
	T(connect(s, &to.sa, to.len));
	say("-- a copy made before connect, bind and listen shares all of it");
	l = must(socket(AF_INET, SOCK_STREAM, 0));
	k = must(dup(l));
	to = ip4("127.0.0.1", 7401);
	T(bind(k, &to.sa, to.len));
	say("local %s", localname(l));
	T(listen(l, 2));
	s = must(socket(AF_INET, SOCK_STREAM, 0));
	int s2 = must(dup(s));
	T(connect(s2, &to.sa, to.len));
	say("peer %s", peername(s));
	a = F(accept(k, NULL, NULL));
	must(write(s, "y", 1));
	T(read(a, &c, 1));
	must(close(l));
	T(getsockopt(k, SOL_SOCKET, SO_ACCEPTCONN, &(int){0}, &(socklen_t){4}));
	dial(k);
	F(accept(k, NULL, NULL));
	say("-- descriptors by /proc");
	char path[64], target[64];
	snprintf(path, sizeof path, "/proc/self/fd/%d", s);
	ssize_t n = readlink(path, target, sizeof target - 1);
	target[n < 0 ? 0 : n] = 0;
	say("%.7s", target);
	T(open(path, O_RDWR));
	return 0;
}

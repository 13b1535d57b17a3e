/* exec_inherit: a connection on 0, 1 and 2 over exec, and CLOEXEC ones that go. */
#include "common.h"

static void show(int fd, const char *label)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		dprintf(1, "%s: %s\n", label, ename(errno));
	else
		dprintf(1, "%s: open, local %s\n", label, localname(fd));
}

static int child(void)
{
	char line[64];

	dprintf(1, "peer family %d\n", local(0).sa.sa_family);
	show(10, "10 (plain)");
	show(11, "11 (FD_CLOEXEC)");
	show(12, "12 (SOCK_CLOEXEC)");
	show(13, "13 (listener)");
	int fd = accept(13, NULL, NULL);
	dprintf(2, "accept: %s\n", fd >= 0 ? "ok" : ename(errno));
	ssize_t n = read(0, line, sizeof line - 1);
	line[n > 0 ? n : 0] = 0;
	dprintf(2, "read: %s\n", line);
	if (getsockopt(0, SOL_SOCKET, SO_TYPE, &(int){0}, &(socklen_t){4}) < 0)
		dprintf(2, "SO_TYPE: %s\n", ename(errno));
	dprintf(2, "SO_KEEPALIVE %d\n", get_int(0, SOL_SOCKET, SO_KEEPALIVE));
	return 5;
}

int main(int argc, char **argv)
{
	int p[2];
	char buf[4096];
	ssize_t n;

	if (argc > 1 && strcmp(argv[1], "child") == 0)
		return child();
	begin();
	tcp_pair(AF_INET, p);
	must(set_int(p[1], SOL_SOCKET, SO_KEEPALIVE, 1));
	int l = listener(AF_INET, 3);
	int waiting = dial(l);
	pid_t pid = xfork();
	if (pid == 0) {
		must(dup2(l, 13));
		int plain = must(socket(AF_INET, SOCK_DGRAM, 0));
		must(dup2(plain, 10));
		must(dup3(plain, 11, O_CLOEXEC));
		int s = must(socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
		must(fcntl(s, F_DUPFD_CLOEXEC, 12));
		for (int i = 0; i < 3; i++)
			must(dup2(p[1], i));
		close_range(3, 9, 0);
		execl("/proc/self/exe", argv[0], "child", NULL);
		_exit(99);
	}
	must(close(p[1]));
	write_all(p[0], "a request\n", 10);
	say("child: %s", join(pid));
	size_t len = 0;
	while (len < sizeof buf - 1 && (n = read(p[0], buf + len, sizeof buf - 1 - len)) > 0)
		len += n;
	buf[len] = 0;
	say("what it wrote:\n%s", buf);
	must(close(l));
	char c;
	T(read(waiting, &c, 1));
	return 0;
}

/* daemon: a doubly forked daemon serves after the process that made its sockets has ended. */
#include "common.h"

static void daemon_main(int l, int conn, int u)
{
	struct addr from = {.len = sizeof from.ss};
	char c;

	must(setsid());
	if (xfork())
		_exit(0);
	must(chdir("/"));
	write_all(conn, "from the daemon", 15);
	must(close(conn));
	int fd = must(accept(l, NULL, NULL));
	must(close(l));
	while (read(fd, &c, 1) == 1)
		write_all(fd, &c, 1);
	must(close(fd));
	/* a listener of its own, told over the inherited UDP socket */
	int own = listener(AF_INET6, 1);
	struct addr where = local(own);
	char buf[16];
	must(recvfrom(u, buf, sizeof buf, 0, &from.sa, &from.len));
	must(sendto(u, &where.v6.sin6_port, 2, 0, &from.sa, from.len));
	fd = must(accept(own, NULL, NULL));
	write_all(fd, "own", 3);
	_exit(0);
}

int main(void)
{
	begin();
	int l = listener(AF_INET, 3), u = udp_on(AF_INET);
	struct addr to = local(l), uto = local(u);
	int mine = dial(l), conn = must(accept(l, NULL, NULL));
	char c;

	pid_t starter = xfork();
	if (starter == 0)
		daemon_main(l, conn, u);
	must(close(l));
	must(close(conn));
	must(close(u));
	say("starter: %s", join(starter));
	say("inherited connection: %s", read_text(mine, 15));
	T(read(mine, &c, 1));

	int fd = must(socket(AF_INET, SOCK_STREAM, 0));
	T(connect(fd, &to.sa, to.len));
	write_all(fd, "echo me", 7);
	say("inherited listener: %s", read_text(fd, 7));
	T(shutdown(fd, SHUT_WR));
	T(read(fd, &c, 1));

	int cu = must(socket(AF_INET, SOCK_DGRAM, 0));
	struct addr own = ip6("::1", 0);
	T(sendto(cu, "where", 5, 0, &uto.sa, uto.len));
	T(recv(cu, &own.v6.sin6_port, 2, 0));
	int fd2 = must(socket(AF_INET6, SOCK_STREAM, 0));
	T(connect(fd2, &own.sa, own.len));
	say("its own listener: %s", read_text(fd2, 3));
	T(read(fd2, &c, 1));

	fd = must(socket(AF_INET, SOCK_STREAM, 0));
	T(connect(fd, &to.sa, to.len));
	return 0;
}

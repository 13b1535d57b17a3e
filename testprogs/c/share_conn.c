/* share_conn: parent and children writing and reading one connection. */
#include "common.h"

int main(void)
{
	int p[2];
	struct gate a, b;
	char c, buf[512];

	begin();
	tcp_pair(AF_INET, p);
	a = gate();
	b = gate();

	say("-- turns");
	pid_t pid = xfork();
	if (pid == 0) {
		for (int i = 0; i < 3; i++) {
			gate_wait(&a);
			write_all(p[0], "child ", 6);
			gate_open(&b);
		}
		_exit(0);
	}
	for (int i = 0; i < 3; i++) {
		write_all(p[0], "parent ", 7);
		gate_open(&a);
		gate_wait(&b);
	}
	say("child: %s", join(pid));
	say("read: %s", read_text(p[1], 39));

	say("-- both at once, whole records");
	pid = xfork();
	for (int i = 0; i < 200; i++)
		must(write(p[0], pid ? "PPPPPPPP" : "cccccccc", 8));
	if (pid == 0)
		_exit(0);
	int parents = 0, childs = 0, torn = 0;
	for (int i = 0; i < 400; i++) {
		read_all(p[1], buf, 8);
		if (!memcmp(buf, "PPPPPPPP", 8))
			parents++;
		else if (!memcmp(buf, "cccccccc", 8))
			childs++;
		else
			torn++;
	}
	say("records: parent %d child %d torn %d", parents, childs, torn);
	say("child: %s", join(pid));

	say("-- the child closes its copy");
	pid = xfork();
	if (pid == 0) {
		must(close(p[0]));
		must(close(p[1]));
		_exit(0);
	}
	join(pid);
	T(write(p[0], "alive", 5));
	say("read: %s", read_text(p[1], 5));

	say("-- a shutdown in the child counts for all");
	pid = xfork();
	if (pid == 0) {
		must(shutdown(p[1], SHUT_WR));
		_exit(0);
	}
	join(pid);
	T(read(p[0], &c, 1));
	signal(SIGPIPE, SIG_IGN);
	T(write(p[1], "x", 1));

	say("-- the last close is the child's");
	pid = xfork();
	if (pid == 0) {
		must(close(p[1]));
		gate_wait(&a);
		write_all(p[0], "last", 4);
		_exit(3);
	}
	T(close(p[0]));
	T(recv(p[1], &c, 1, MSG_DONTWAIT));
	gate_open(&a);
	say("read: %s", read_text(p[1], 4));
	T(read(p[1], &c, 1));
	say("child: %s", join(pid));

	say("-- a flag set in the child is seen by the parent");
	tcp_pair(AF_INET6, p);
	pid = xfork();
	if (pid == 0) {
		nonblock(p[0], 1);
		must(set_int(p[0], SOL_SOCKET, SO_KEEPALIVE, 1));
		_exit(0);
	}
	join(pid);
	T(read(p[0], &c, 1));
	say("SO_KEEPALIVE %d", get_int(p[0], SOL_SOCKET, SO_KEEPALIVE));

	say("-- killed: the kernel closes for it");
	pid = xfork();
	if (pid == 0) {
		must(close(p[1]));
		pause();
		_exit(0);
	}
	T(close(p[0]));
	must(kill(pid, SIGKILL));
	say("child: %s", join(pid));
	T(read(p[1], &c, 1));
	return 0;
}

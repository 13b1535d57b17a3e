/* accept4: its flags, and what an accepted socket inherits. */
#include "common.h"

static void show(const char *label, int fd)
{
	if (fd < 0)
		say("%s: %s", label, ename(errno));
	else
		say("%s:%s%s", label, fcntl(fd, F_GETFL) & O_NONBLOCK ? " O_NONBLOCK" : " blocking", fcntl(fd, F_GETFD) & FD_CLOEXEC ? " FD_CLOEXEC" : "");
}

int main(void)
{
	struct addr a = {.len = sizeof a.ss};

	begin();
	int l = listener(AF_INET, 8);
	for (int nb = 0; nb < 2; nb++) {
		say("-- the listener is %s", nb ? "not blocking" : "blocking");
		nonblock(l, nb);
		for (int i = 0; i < 5; i++)
			dial(l);
		msleep(20);
		show("accept", accept(l, NULL, NULL));
		show("accept4 0", accept4(l, NULL, NULL, 0));
		show("SOCK_NONBLOCK", accept4(l, NULL, NULL, SOCK_NONBLOCK));
		show("SOCK_CLOEXEC", accept4(l, &a.sa, &a.len, SOCK_CLOEXEC));
		show("both", accept4(l, &a.sa, &a.len, SOCK_CLOEXEC | SOCK_NONBLOCK));
		show("unknown flag", accept4(l, NULL, NULL, 1));
		show("O_APPEND", accept4(l, &a.sa, &a.len, O_APPEND));
	}
	show("nothing pending", accept4(l, NULL, NULL, 0));
	show("nothing pending, with an address", accept4(l, &a.sa, &a.len, 0));
	T(fcntl(l, F_SETFL, 0));
	say("-- on others");
	int s = must(socket(AF_INET, SOCK_STREAM, 0)), u = udp_on(AF_INET), p[2];
	show("fresh", accept4(s, NULL, NULL, 0));
	show("UDP", accept4(u, NULL, NULL, 0));
	tcp_pair(AF_INET, p);
	show("connected", accept4(p[0], NULL, NULL, 0));
	say("-- after shutdown of the listener");
	T(shutdown(l, SHUT_RD));
	show("accept", accept(l, NULL, NULL));
	T(listen(l, 3));
	dial(l);
	show("listening again", accept(l, NULL, NULL));
	return 0;
}

/* prefork: children that all accept on one listener, blocking and with epoll. */
#include "common.h"

#define CHILDREN 4
#define CLIENTS 40

static void serve(int l, int polled)
{
	int ep = -1, served = 0;

	if (polled) {
		struct epoll_event ev = {.events = EPOLLIN, .data.fd = l};
		ep = must(epoll_create1(0));
		must(epoll_ctl(ep, EPOLL_CTL_ADD, l, &ev));
	}
	for (;;) {
		char c;
		if (polled) {
			struct epoll_event ev;
			must(epoll_wait(ep, &ev, 1, 10000));
		}
		int fd = accept(l, NULL, NULL);
		if (fd < 0 && errno == EAGAIN)
			continue;
		must(fd);
		must(read(fd, &c, 1));
		served++;
		if (c == 'q') {
			/* one of these each: a child answers it and stops */
			unsigned char s = served - 1;
			write_all(fd, &s, 1);
			_exit(0);
		}
		write_all(fd, &c, 1);
		must(close(fd));
	}
}

static void round_of(int family, int polled)
{
	pid_t pids[CHILDREN];
	int total = 0, good = 0;

	say("-- %s, %s", family == AF_INET ? "IPv4" : "IPv6", polled ? "epoll" : "blocking");
	int l = listener(family, CLIENTS);
	if (polled)
		nonblock(l, 1);
	for (int i = 0; i < CHILDREN; i++)
		if ((pids[i] = xfork()) == 0)
			serve(l, polled);
	for (int i = 0; i < CLIENTS; i++) {
		char c = 'a' + i % 8, got = 0;
		int fd = dial(l);
		write_all(fd, &c, 1);
		read_all(fd, &got, 1);
		good += got == c;
		must(close(fd));
	}
	say("echoed: %d of %d", good, CLIENTS);
	for (int i = 0; i < CHILDREN; i++) {
		unsigned char n;
		int fd = dial(l);
		write_all(fd, "q", 1);
		if (read_all(fd, &n, 1) == 1)
			total += n;
		must(close(fd));
	}
	say("served by all children: %d", total);
	for (int i = 0; i < CHILDREN; i++)
		say("child: %s", join(pids[i]));
	T(close(l));
}

int main(void)
{
	begin();
	round_of(AF_INET, 0);
	round_of(AF_INET6, 0);
	round_of(AF_INET, 1);
	return 0;
}

/* epoll_exclusive: EPOLLEXCLUSIVE listeners in several processes lose no connection. */
#include "common.h"

#define CHILDREN 3
#define CLIENTS 30

static void serve(int l, struct gate *ready)
{
	struct epoll_event ev = {.events = EPOLLIN | EPOLLEXCLUSIVE};
	int ep = must(epoll_create1(0)), fd;

	must(epoll_ctl(ep, EPOLL_CTL_ADD, l, &ev));
	gate_open(ready);
	for (;;) {
		char c;
		must(epoll_wait(ep, &ev, 1, 10000));
		while ((fd = accept4(l, NULL, NULL, 0)) >= 0) {
			if (read(fd, &c, 1) == 1 && c == 'q')
				_exit(0);
			write_all(fd, &c, 1);
			must(close(fd));
		}
	}
}

int main(void)
{
	pid_t pids[CHILDREN];
	int good = 0;

	begin();
	int l = listener(AF_INET, 64);
	nonblock(l, 1);
	int ep = must(epoll_create1(0));
	struct epoll_event bad = {.events = EPOLLIN | EPOLLEXCLUSIVE | EPOLLONESHOT};
	T(epoll_ctl(ep, EPOLL_CTL_ADD, l, &bad));
	struct epoll_event ok = {.events = EPOLLIN | EPOLLEXCLUSIVE};
	T(epoll_ctl(ep, EPOLL_CTL_ADD, l, &ok));
	T(epoll_ctl(ep, EPOLL_CTL_MOD, l, &ok));
	T(epoll_ctl(ep, EPOLL_CTL_DEL, l, NULL));

	struct gate ready = gate();
	for (int i = 0; i < CHILDREN; i++)
		if ((pids[i] = xfork()) == 0)
			serve(l, &ready);
	for (int i = 0; i < CHILDREN; i++)
		gate_wait(&ready);
	for (int i = 0; i < CLIENTS; i++) {
		char c = 'a', got = 0;
		int fd = dial(l);
		write_all(fd, &c, 1);
		read_all(fd, &got, 1);
		good += got == 'a';
		must(close(fd));
	}
	say("echoed: %d of %d", good, CLIENTS);
	for (int i = 0; i < CHILDREN; i++)
		write_all(dial(l), "q", 1);
	for (int i = 0; i < CHILDREN; i++)
		say("child: %s", join(pids[i]));
	return 0;
}

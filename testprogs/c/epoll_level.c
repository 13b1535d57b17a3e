/* epoll_level: level triggered epoll through the life of sockets beside a pipe. */
#include "common.h"

static int ep;

static void add(int fd, unsigned events, const char *name)
{
	struct epoll_event ev = {.events = events, .data.ptr = (void *)name};

	must(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
}

static int by_name(const void *a, const void *b)
{
	return strcmp(((const struct epoll_event *)a)->data.ptr, ((const struct epoll_event *)b)->data.ptr);
}

static void show(const char *label, int timeout)
{
	struct epoll_event ev[16];
	char line[512] = "";

	msleep(20);
	int n = epoll_wait(ep, ev, 16, timeout);
	qsort(ev, n > 0 ? n : 0, sizeof *ev, by_name);
	for (int i = 0; i < n; i++)
		snprintf(line + strlen(line), sizeof line - strlen(line), " %s[%s]", (char *)ev[i].data.ptr, mname(ev[i].events));
	say("%s: %d%s", label, n, line);
}

int main(void)
{
	int conn[2], pipefd[2];
	char c;

	begin();
	ep = must(epoll_create1(EPOLL_CLOEXEC));
	int l = listener(AF_INET, 4), u = udp_on(AF_INET);
	must(pipe(pipefd));
	add(l, EPOLLIN, "listener");
	add(u, EPOLLIN, "udp");
	add(pipefd[0], EPOLLIN, "pipe");
	show("idle", 0);
	conn[0] = dial(l);
	show("pending", 0);
	show("still pending", 0);
	conn[1] = must(accept(l, NULL, NULL));
	show("accepted", 0);
	add(conn[0], EPOLLIN | EPOLLRDHUP, "dialled");
	add(conn[1], EPOLLIN | EPOLLOUT | EPOLLRDHUP, "accepted");
	show("added", 0);
	must(write(conn[0], "abc", 3));
	show("data", 0);
	T(read(conn[1], &c, 1));
	show("some of it read", 0);
	T(read(conn[1], (char[2]){0}, 2));
	show("all read", 0);
	must(write(pipefd[1], "p", 1));
	struct addr to = local(u);
	must(sendto(u, "u", 1, 0, &to.sa, to.len));
	show("pipe and datagram", 0);
	T(recv(u, &c, 1, 0));
	T(read(pipefd[0], &c, 1));
	struct epoll_event ev = {.events = EPOLLIN, .data.ptr = "modified"};
	T(epoll_ctl(ep, EPOLL_CTL_MOD, conn[1], &ev));
	show("modified", 0);
	must(shutdown(conn[0], SHUT_WR));
	show("peer's FIN", 0);
	T(epoll_ctl(ep, EPOLL_CTL_DEL, conn[1], NULL));
	show("deleted", 0);
	T(epoll_ctl(ep, EPOLL_CTL_DEL, conn[1], NULL));
	T(epoll_ctl(ep, EPOLL_CTL_ADD, conn[0], &ev));
	int copy = must(dup(conn[0]));
	T(epoll_ctl(ep, EPOLL_CTL_ADD, copy, &ev));
	must(write(conn[1], "z", 1));
	show("both copies", 0);
	must(close(copy));
	must(close(conn[0]));
	show("a copy and its original closed", 0);
	show("the last read", 0);
	int nested = ep;
	ep = must(epoll_create1(0));
	add(nested, EPOLLIN, "nested");
	show("nested, idle", 0);
	dial(l);
	show("nested, pending", 0);
	return 0;
}

/* epoll_edge: edge triggered epoll: one event for each change and no more. */
#include "common.h"

static int ep;

static void show(const char *label)
{
	struct epoll_event ev;

	msleep(30);
	int n = epoll_wait(ep, &ev, 1, 0);
	say("%s: %s", label, n == 1 ? mname(ev.events) : n == 0 ? "none" : ename(errno));
}

static void add(int fd, unsigned events)
{
	struct epoll_event ev = {.events = events | EPOLLET, .data.fd = fd};

	must(epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev));
}

static void drop(int fd)
{
	must(epoll_ctl(ep, EPOLL_CTL_DEL, fd, NULL));
}

int main(void)
{
	int p[2];
	char b[100000];

	begin();
	ep = must(epoll_create1(0));
	say("-- listener");
	int l = listener(AF_INET, 8);
	add(l, EPOLLIN);
	show("idle");
	int a = dial(l);
	show("one pending");
	show("again");
	int d = dial(l);
	show("a second");
	show("again");
	p[1] = must(accept(l, NULL, NULL));
	must(accept(l, NULL, NULL));
	show("both accepted");
	dial(l);
	show("a third");
	drop(l);

	say("-- connection, input");
	p[0] = a;
	(void)d;
	add(p[1], EPOLLIN | EPOLLRDHUP);
	show("idle");
	must(write(p[0], "abcd", 4));
	show("data");
	show("again, unread");
	T(read(p[1], b, 2));
	show("half of it read");
	must(write(p[0], "ef", 2));
	show("more data");
	T(read(p[1], b, sizeof b));
	show("all read");
	must(shutdown(p[0], SHUT_WR));
	show("FIN");
	show("again");
	drop(p[1]);

	say("-- connection, output");
	tcp_pair(AF_INET, p);
	nonblock(p[0], 1);
	add(p[0], EPOLLOUT);
	show("writable");
	show("again");
	must(write(p[0], "x", 1));
	show("after a small write");
	memset(b, 'w', sizeof b);
	while (write(p[0], b, sizeof b) > 0)
		;
	say("full: %s", ename(errno));
	show("full");
	nonblock(p[1], 1);
	for (int idle = 0; idle < 20;) {
		if (read(p[1], b, sizeof b) > 0) {
			idle = 0;
		} else {
			idle++;
			msleep(3);
		}
	}
	show("drained by the peer");
	drop(p[0]);

	say("-- connect");
	l = listener(AF_INET6, 2);
	struct addr to = local(l);
	int s = must(socket(AF_INET6, SOCK_STREAM | SOCK_NONBLOCK, 0));
	add(s, EPOLLIN | EPOLLOUT | EPOLLRDHUP);
	show("fresh");
	L("connect in progress", connect(s, &to.sa, to.len) == 0 || errno == EINPROGRESS ? 0 : -1);
	show("connected");
	show("again");
	drop(s);

	say("-- datagrams");
	int u = udp_on(AF_INET), v = udp_on(AF_INET);
	to = local(u);
	add(u, EPOLLIN);
	show("idle");
	must(sendto(v, "1", 1, 0, &to.sa, to.len));
	show("one");
	must(sendto(v, "2", 1, 0, &to.sa, to.len));
	show("a second");
	T(recv(u, b, sizeof b, 0));
	show("one of them read");
	T(recv(u, b, sizeof b, 0));
	show("all read");
	drop(u);

	say("-- reset");
	tcp_pair(AF_INET, p);
	add(p[1], EPOLLIN | EPOLLOUT | EPOLLRDHUP);
	show("at first");
	struct linger li = {1, 0};
	must(setsockopt(p[0], SOL_SOCKET, SO_LINGER, &li, sizeof li));
	must(close(p[0]));
	show("after RST");
	show("again");
	T(read(p[1], b, 1));
	return 0;
}

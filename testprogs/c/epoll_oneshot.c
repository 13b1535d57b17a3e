/* epoll_oneshot: EPOLLONESHOT disarms until EPOLL_CTL_MOD arms again. */
#include "common.h"

static int ep;

static void show(const char *label)
{
	struct epoll_event ev;

	msleep(20);
	int n = epoll_wait(ep, &ev, 1, 0);
	say("%s: %s", label, n == 1 ? mname(ev.events) : n == 0 ? "none" : ename(errno));
}

int main(void)
{
	int p[2];
	char b[16];

	begin();
	ep = must(epoll_create1(0));
	tcp_pair(AF_INET, p);
	struct epoll_event ev = {.events = EPOLLIN | EPOLLONESHOT};
	must(epoll_ctl(ep, EPOLL_CTL_ADD, p[1], &ev));
	must(write(p[0], "a", 1));
	show("data");
	must(write(p[0], "b", 1));
	show("more, disarmed");
	T(epoll_ctl(ep, EPOLL_CTL_MOD, p[1], &ev));
	show("armed again");
	T(read(p[1], b, sizeof b));
	T(epoll_ctl(ep, EPOLL_CTL_MOD, p[1], &ev));
	show("nothing there");
	must(close(p[0]));
	show("the peer closed");
	show("disarmed");

	int l = listener(AF_INET6, 4);
	ev.events = EPOLLIN | EPOLLONESHOT | EPOLLET;
	must(epoll_ctl(ep, EPOLL_CTL_ADD, l, &ev));
	dial(l);
	show("pending");
	dial(l);
	show("another, disarmed");
	must(close(must(accept(l, NULL, NULL))));
	T(epoll_ctl(ep, EPOLL_CTL_MOD, l, &ev));
	show("armed, one left");
	must(close(must(accept(l, NULL, NULL))));
	T(epoll_ctl(ep, EPOLL_CTL_MOD, l, &ev));
	show("armed, none left");

	int u = udp_on(AF_INET);
	struct addr to = local(u);
	ev.events = EPOLLIN | EPOLLONESHOT;
	must(epoll_ctl(ep, EPOLL_CTL_ADD, u, &ev));
	must(sendto(u, "1", 1, 0, &to.sa, to.len));
	show("datagram");
	must(sendto(u, "2", 1, 0, &to.sa, to.len));
	show("another, disarmed");
	T(recv(u, b, sizeof b, 0));
	T(recv(u, b, sizeof b, 0));
	return 0;
}

/* udp_refused: ICMP port unreachable on connected and unconnected UDP sockets. */
#include "common.h"

static void run(int family)
{
	char b[16];

	say("-- %s", family == AF_INET ? "IPv4" : "IPv6");
	int gone = udp_on(family);
	struct addr to = local(gone);
	must(close(gone));
	msleep(20);
	int s = must(socket(family, SOCK_DGRAM, 0));
	must(connect(s, &to.sa, to.len));
	T(send(s, "1", 1, 0));
	mask("mask", s, POLLOUT | POLLERR);
	T(recv(s, b, sizeof b, 0));
	T(recv(s, b, sizeof b, MSG_DONTWAIT));
	T(write(s, "2", 1));
	mask("mask", s, POLLOUT | POLLERR);
	T(write(s, "3", 1));
	T(write(s, "4", 1));
	mask("mask", s, POLLOUT | POLLERR);
	T(read(s, b, sizeof b));
	T(send(s, "5", 1, 0));
	mask("mask", s, POLLOUT | POLLERR);
	say("SO_ERROR %s", so_error(s));
	T(recv(s, b, sizeof b, MSG_DONTWAIT));
	T(send(s, "6", 1, 0));
	mask("mask", s, POLLOUT | POLLERR);
	T(recvfrom(s, b, sizeof b, 0, &(struct sockaddr){0}, &(socklen_t){16}));
	T(send(s, "7", 1, 0));
	mask("mask", s, POLLOUT | POLLERR);
	T(recvmsg(s, &(struct msghdr){.msg_iov = &(struct iovec){b, sizeof b}, .msg_iovlen = 1}, 0));
	say("-- a blocked recv");
	set_timeo(s, SO_RCVTIMEO, 2000);
	pid_t pid = xfork();
	if (pid == 0) {
		msleep(50);
		send(s, "8", 1, 0);
		_exit(0);
	}
	T(recv(s, b, sizeof b, 0));
	join(pid);
	say("-- not connected: nobody hears of it");
	int u = must(socket(family, SOCK_DGRAM, 0));
	T(sendto(u, "9", 1, 0, &to.sa, to.len));
	msleep(20);
	say("mask %s", mname(mask_now(u)));
	T(recv(u, b, sizeof b, MSG_DONTWAIT));
	say("-- then somebody listens");
	int r = must(socket(family, SOCK_DGRAM, 0));
	must(bind(r, &to.sa, to.len));
	T(send(s, "heard", 5, 0));
	T(recv(r, b, sizeof b, 0));
}

int main(void)
{
	begin();
	run(AF_INET);
	run(AF_INET6);
	return 0;
}

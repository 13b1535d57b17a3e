/* udp_sizes: empty, truncated, largest and too large datagrams, and their order and boundaries. */
#include "common.h"

static void run(int family)
{
	static char big[70000], in[70000];
	char b[8];
	unsigned char order[50];

	say("-- %s", family == AF_INET ? "IPv4" : "IPv6");
	int u = udp_on(family), s = must(socket(family, SOCK_DGRAM, 0));
	struct addr to = local(u);
	must(connect(s, &to.sa, to.len));
	T(send(s, "", 0, 0));
	T(recv(u, b, sizeof b, 0));
	T(write(s, "", 0));
	msleep(20);
	T(recv(u, b, sizeof b, MSG_DONTWAIT));
	T(writev(s, &(struct iovec){"", 0}, 1));
	T(send(s, "", 0, 0));
	T(read(u, b, sizeof b));
	must(send(s, "longer than the buffer", 22, 0));
	struct iovec iov = {b, sizeof b};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	T(recvmsg(u, &m, 0));
	say("flags %#x", m.msg_flags);
	must(send(s, "longer than the buffer", 22, 0));
	T(recvmsg(u, &m, MSG_TRUNC));
	must(send(s, "longer than the buffer", 22, 0));
	T(read(u, b, sizeof b));
	must(send(s, "unread", 6, 0));
	T(recv(u, NULL, 0, MSG_PEEK));
	T(recv(u, NULL, 0, MSG_PEEK | MSG_TRUNC));
	T(recv(u, b, 0, 0));
	T(recv(u, b, sizeof b, MSG_DONTWAIT));
	say("-- sizes");
	pattern(big, sizeof big, 9);
	static const size_t sizes[] = {1473, 16384, 65000, 65507, 65508, 65527, 65528, 66000};
	for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		ssize_t n = send(s, big, sizes[i], 0);
		const char *sent = outcome(n, errno);
		if (n < 0 || settle(s) || !await(u, POLLIN)) {
			say("send of %zu: %s, nothing received", sizes[i], sent);
			continue;
		}
		n = recv(u, in, sizeof in, 0);
		say("send of %zu: %s, received %zd %s", sizes[i], sent, n, n == (ssize_t)sizes[i] && !memcmp(big, in, n) ? "same" : "differs");
	}
	say("-- order and boundaries");
	for (unsigned i = 0; i < sizeof order; i++) {
		order[i] = i;
		must(send(s, order, i + 1, 0));
	}
	int good = 0;
	for (unsigned i = 0; i < sizeof order; i++) {
		ssize_t n = recv(u, in, sizeof in, 0);
		good += n == (ssize_t)i + 1 && in[n - 1] == (char)i;
	}
	say("in order: %d", good);
	say("-- a queue that overflows drops and does not block");
	must(set_int(u, SOL_SOCKET, SO_RCVBUF, 4096));
	int sent = 0, got = 0;
	for (int i = 0; i < 500; i++) {
		ssize_t n;
		while ((n = send(s, big, 1000, MSG_DONTWAIT)) < 0 && errno == EAGAIN && await(s, POLLOUT))
			;
		sent += n == 1000;
	}
	msleep(50);
	while (recv(u, in, sizeof in, MSG_DONTWAIT) > 0)
		got++;
	say("sent %d, received %s", sent, got == 0 ? "none" : got < sent ? "some" : "all");
}

int main(void)
{
	begin();
	run(AF_INET);
	run(AF_INET6);
	return 0;
}

/* mmsg: sendmmsg and recvmmsg on UDP and TCP. */
#include "common.h"

#define N 5

static void run(int family)
{
	struct mmsghdr m[N] = {0};
	struct iovec v[N];
	struct addr from[N];
	char text[N][32], in[N][32];

	say("-- %s", family == AF_INET ? "IPv4" : "IPv6");
	int u = udp_on(family), s = must(socket(family, SOCK_DGRAM, 0));
	struct addr to = local(u);
	for (int i = 0; i < N; i++) {
		int n = snprintf(text[i], sizeof text[i], "message %d%.*s", i, i, "......");
		v[i] = (struct iovec){text[i], n};
		m[i].msg_hdr = (struct msghdr){.msg_iov = &v[i], .msg_iovlen = 1, .msg_name = &to.sa, .msg_namelen = to.len};
	}
	T(sendmmsg(s, m, N, 0));
	for (int i = 0; i < N; i++)
		say("sent %u", m[i].msg_len);
	msleep(30);
	for (int i = 0; i < N; i++) {
		v[i] = (struct iovec){in[i], i == 2 ? 4 : sizeof in[i]};
		m[i].msg_hdr = (struct msghdr){.msg_iov = &v[i], .msg_iovlen = 1, .msg_name = &from[i].sa, .msg_namelen = sizeof from[i].ss};
	}
	T(recvmmsg(u, m, 3, 0, NULL));
	T(recvmmsg(u, m + 3, 1, MSG_WAITFORONE, NULL));
	struct timespec ts = {0, 50000000};
	T(recvmmsg(u, m + 4, 1, 0, &ts));
	for (int i = 0; i < N; i++) {
		from[i].len = m[i].msg_hdr.msg_namelen;
		say("got %u %.*s flags %#x from %s", m[i].msg_len, (int)m[i].msg_len, in[i], m[i].msg_hdr.msg_flags, aname(&from[i]));
	}
	T(recvmmsg(u, m, N, MSG_DONTWAIT, NULL));
	T(recvmmsg(u, m, 0, 0, NULL));

	say("-- a part of the vector fails");
	for (int i = 0; i < N; i++) {
		v[i] = (struct iovec){text[i], 4};
		m[i].msg_hdr = (struct msghdr){.msg_iov = &v[i], .msg_iovlen = 1, .msg_name = i == 2 ? (void *)1 : &to.sa, .msg_namelen = to.len};
	}
	T(sendmmsg(s, m, N, 0));
	T(sendmmsg(s, m + 2, 1, 0));
	msleep(20);
	for (int i = 0; i < N; i++) {
		v[i] = (struct iovec){in[i], sizeof in[i]};
		m[i].msg_hdr = (struct msghdr){.msg_iov = &v[i], .msg_iovlen = 1};
	}
	T(recvmmsg(u, m, N, MSG_DONTWAIT, NULL));

	say("-- connected");
	must(connect(s, &to.sa, to.len));
	for (int i = 0; i < N; i++) {
		v[i] = (struct iovec){text[i], 3};
		m[i].msg_hdr = (struct msghdr){.msg_iov = &v[i], .msg_iovlen = 1};
	}
	T(sendmmsg(s, m, 2, 0));
	T(recv(u, in, sizeof in, 0));
	T(recv(u, in, sizeof in, 0));
}

int main(void)
{
	int p[2];
	char in[64];
	struct mmsghdr m[2] = {0};
	struct iovec v[2] = {{"tcp ", 4}, {"vector", 6}};

	begin();
	run(AF_INET);
	run(AF_INET6);
	say("-- TCP");
	tcp_pair(AF_INET, p);
	for (int i = 0; i < 2; i++)
		m[i].msg_hdr = (struct msghdr){.msg_iov = &v[i], .msg_iovlen = 1};
	T(sendmmsg(p[0], m, 2, 0));
	say("lengths %u %u", m[0].msg_len, m[1].msg_len);
	msleep(20);
	v[0] = (struct iovec){in, 4};
	v[1] = (struct iovec){in + 4, 6};
	T(recvmmsg(p[1], m, 2, 0, NULL));
	say("got %.10s", in);
	say("-- not sockets");
	T(sendmmsg(0, m, 1, 0));
	T(recvmmsg(-1, m, 1, 0, NULL));
	return 0;
}

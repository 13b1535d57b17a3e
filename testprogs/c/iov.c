/* iov: readv, writev, preadv, sendmsg and recvmsg with vectors of every shape. */
#include "common.h"

static void run(const char *label, int w, int r, struct addr *to)
{
	char a[4], b[8], c[64];
	struct iovec out[] = {{"one ", 4}, {NULL, 0}, {"two ", 4}, {"three", 5}};
	struct iovec in[] = {{a, 4}, {b, 0}, {b, 8}, {c, sizeof c}};
	struct msghdr m = {.msg_iov = out, .msg_iovlen = 4};

	say("-- %s", label);
	if (to)
		must(connect(w, &to->sa, to->len));
	T(writev(w, out, 4));
	msleep(20);
	T(readv(r, in, 4));
	say("%.4s|%.8s|%.1s", a, b, c);
	T(sendmsg(w, &m, 0));
	msleep(20);
	m.msg_iov = in;
	T(recvmsg(r, &m, 0));
	say("flags %#x name %u", m.msg_flags, (unsigned)m.msg_namelen);
	T(writev(w, out, 0));
	T(writev(w, out, -1));
	T(writev(w, out, 1025));
	m.msg_iov = out;
	m.msg_iovlen = 1025;
	T(sendmsg(w, &m, 0));
	m.msg_iovlen = 0;
	m.msg_iov = NULL;
	nonblock(r, 1);
	T(recvmsg(r, &m, 0));
	nonblock(r, 0);
	struct iovec bad[] = {{"x", 1}, {"y", (size_t)-1}};
	T(writev(w, bad, 2));
	T(pwritev(w, out, 1, 0));
	T(preadv(r, in, 1, 0));
	T(pwrite(w, "x", 1, 0));
	T(pread(r, a, 1, 0));
	T(lseek(w, 0, SEEK_CUR));
	T(preadv2(r, in, 4, -1, RWF_NOWAIT));
	T(pwritev2(w, out, 4, -1, 0));
	T(readv(r, in, 4));
}

int main(void)
{
	int p[2];

	begin();
	tcp_pair(AF_INET, p);
	run("TCP", p[0], p[1], NULL);
	tcp_pair(AF_INET6, p);
	run("TCP, IPv6", p[0], p[1], NULL);
	int u = udp_on(AF_INET), v = must(socket(AF_INET, SOCK_DGRAM, 0));
	struct addr to = local(u);
	run("UDP", v, u, &to);

	say("-- many small pieces");
	static char buf[1024], back[1024];
	struct iovec out[1024], in[1024];
	pattern(buf, sizeof buf, 0);
	for (int i = 0; i < 1024; i++) {
		out[i] = (struct iovec){buf + i, 1};
		in[i] = (struct iovec){back + i, 1};
	}
	T(writev(p[0], out, 1024));
	msleep(20);
	T(readv(p[1], in, 1024));
	say("%s", memcmp(buf, back, sizeof buf) ? "differs" : "same");
	return 0;
}

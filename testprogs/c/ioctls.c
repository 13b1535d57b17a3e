/* ioctls: FIONREAD, SIOCOUTQ, FIONBIO, FIOCLEX, SIOCATMARK and ones that do not exist. */
#include "common.h"
#include <linux/sockios.h>

static const char *io(int fd, unsigned long req)
{
	char *s = scratch();
	int v = -7;

	if (ioctl(fd, req, &v) < 0)
		return outcome(-1, errno);
	snprintf(s, 512, "%d", v);
	return s;
}

static void run(int family)
{
	int p[2], on = 1, off = 0;
	char b[32];

	say("-- %s", family == AF_INET ? "IPv4" : "IPv6");
	int s = must(socket(family, SOCK_STREAM, 0));
	say("fresh: FIONREAD %s SIOCOUTQ %s SIOCATMARK %s", io(s, FIONREAD), io(s, SIOCOUTQ), io(s, SIOCATMARK));
	int l = listener(family, 2);
	say("listening: FIONREAD %s SIOCOUTQ %s SIOCATMARK %s", io(l, FIONREAD), io(l, SIOCOUTQ), io(l, SIOCATMARK));
	tcp_pair(family, p);
	say("connected: FIONREAD %s SIOCOUTQ %s SIOCATMARK %s", io(p[1], FIONREAD), io(p[0], SIOCOUTQ), io(p[1], SIOCATMARK));
	must(write(p[0], "twelve bytes", 12));
	await(p[1], POLLIN);
	msleep(20);
	say("data: FIONREAD %s SIOCOUTQ %s SIOCOUTQNSD %s", io(p[1], FIONREAD), io(p[0], SIOCOUTQ), io(p[0], SIOCOUTQNSD));
	must(read(p[1], b, 5));
	say("some read: FIONREAD %s", io(p[1], FIONREAD));
	must(shutdown(p[0], SHUT_WR));
	msleep(20);
	say("FIN too: FIONREAD %s", io(p[1], FIONREAD));
	must(read(p[1], b, sizeof b));
	say("all read: FIONREAD %s", io(p[1], FIONREAD));

	int u = udp_on(family), v = must(socket(family, SOCK_DGRAM, 0));
	struct addr to = local(u);
	say("UDP: FIONREAD %s SIOCOUTQ %s SIOCATMARK %s", io(u, FIONREAD), io(u, SIOCOUTQ), io(u, SIOCATMARK));
	must(sendto(v, "first", 5, 0, &to.sa, to.len));
	must(sendto(v, "second one", 10, 0, &to.sa, to.len));
	await(u, POLLIN);
	msleep(10);
	say("two datagrams: FIONREAD %s", io(u, FIONREAD));
	must(recv(u, b, sizeof b, 0));
	say("one left: FIONREAD %s", io(u, FIONREAD));
	must(recv(u, b, sizeof b, 0));
	must(sendto(v, "", 0, 0, &to.sa, to.len));
	await(u, POLLIN);
	say("an empty one: FIONREAD %s", io(u, FIONREAD));

	T(ioctl(s, FIONBIO, &on));
	T((fcntl(s, F_GETFL) & O_NONBLOCK) != 0);
	T(accept(s, NULL, NULL));
	T(ioctl(s, FIONBIO, &off));
	T((fcntl(s, F_GETFL) & O_NONBLOCK) != 0);
	T(ioctl(s, FIOCLEX));
	T(fcntl(s, F_GETFD));
	T(ioctl(s, FIONCLEX));
	T(fcntl(s, F_GETFD));
	T(ioctl(s, TCGETS, b));
	T(ioctl(s, 0x12345678, b));
	T(ioctl(s, SIOCGSTAMP, b));
	T(ioctl(s, FIOGETOWN, b));
	T(isatty(s));
}

int main(void)
{
	begin();
	run(AF_INET);
	run(AF_INET6);
	return 0;
}

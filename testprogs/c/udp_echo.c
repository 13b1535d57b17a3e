/* udp_echo: datagrams over IPv4, IPv6 and IPv4-mapped IPv6, with and without addresses. */
#include "common.h"

struct run {
	const char *name;
	struct addr bind_to, send_to;
};

static void *serve(void *arg)
{
	int fd = *(int *)arg;
	static char buf[70000];

	stream = "server";
	for (;;) {
		struct addr from = {.len = sizeof from.ss};
		ssize_t n = recvfrom(fd, buf, sizeof buf, 0, &from.sa, &from.len);
		if (n < 0) {
			say("recvfrom %s", ename(errno));
			return NULL;
		}
		say("%zd bytes from %s length %u", n, aname(&from), (unsigned)from.len);
		must(sendto(fd, buf, n, 0, &from.sa, from.len));
		if (n == 4 && memcmp(buf, "stop", 4) == 0)
			return NULL;
	}
}

static void echo(struct run *r)
{
	static const size_t sizes[] = {1, 0, 512, 1472, 9000, 60000};
	static char out[70000], in[70000];

	say("-- %s", r->name);
	int s = must(socket(r->bind_to.sa.sa_family, SOCK_DGRAM, 0));
	T(bind(s, &r->bind_to.sa, r->bind_to.len));
	say("bound to %s", localname(s));
	pthread_t t = spawn(serve, &s);

	int fd = must(socket(r->send_to.sa.sa_family, SOCK_DGRAM, 0));
	for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		struct addr from = {.len = sizeof from.ss};
		pattern(out, sizes[i], i);
		ssize_t w = sendto(fd, out, sizes[i], 0, &r->send_to.sa, r->send_to.len);
		ssize_t n = recvfrom(fd, in, sizeof in, 0, &from.sa, &from.len);
		say("sent %zd, got %zd %s from %s", w, n, memcmp(in, out, sizes[i]) ? "differs" : "same", aname(&from));
	}
	say("local %s", localname(fd));
	T(connect(fd, &r->send_to.sa, r->send_to.len));
	say("local %s peer %s", localname(fd), peername(fd));
	T(write(fd, "hello", 5));
	say("read %s", ({ char *b = scratch(); ssize_t n = read(fd, b, 100); b[n < 0 ? 0 : n] = 0; b; }));
	T(send(fd, "stop", 4, 0));
	T(recv(fd, in, sizeof in, 0));
	pthread_join(t, NULL);
	T(close(fd));
	T(close(s));
}

int main(void)
{
	struct run runs[] = {
		{"IPv4", ip4("127.0.0.1", 7001), ip4("127.0.0.1", 7001)},
		{"IPv4, any", ip4("0.0.0.0", 7003), ip4("127.0.0.1", 7003)},
		{"IPv6", ip6("::1", 7005), ip6("::1", 7005)},
		{"IPv6, any", ip6("::", 7006), ip6("::1", 7006)},
		{"mapped, both", ip6("::ffff:127.0.0.1", 7008), ip6("::ffff:127.0.0.1", 7008)},
		{"IPv4 client of a dual-stack server", ip6("::", 7009), ip4("127.0.0.1", 7009)},
	};

	begin();
	for (unsigned i = 0; i < sizeof runs / sizeof *runs; i++)
		echo(&runs[i]);
	return 0;
}

/* tcp_echo: a connection each over IPv4, IPv6 and IPv4-mapped IPv6. */
#include "common.h"

struct run {
	const char *name;
	struct addr bind_to, dial_to;
};

static void *serve(void *arg)
{
	int l = *(int *)arg;
	struct addr from = {.len = sizeof from.ss};
	char buf[4096];
	ssize_t n;

	stream = "server";
	int fd = must(accept(l, &from.sa, &from.len));
	say("local %s peer %s, accepted from %s length %u", localname(fd), peername(fd), aname(&from), (unsigned)from.len);
	while ((n = read(fd, buf, sizeof buf)) > 0)
		write_all(fd, buf, n);
	say("read at the end: %s", outcome(n, errno));
	must(close(fd));
	return NULL;
}

static void echo(struct run *r)
{
	static const size_t sizes[] = {1, 100, 4096, 100000};
	static char out[100000], in[100000];
	char rest;

	say("-- %s", r->name);
	int l = must(socket(r->bind_to.sa.sa_family, SOCK_STREAM, 0));
	must(set_int(l, SOL_SOCKET, SO_REUSEADDR, 1));
	T(bind(l, &r->bind_to.sa, r->bind_to.len));
	T(listen(l, 5));
	say("listener: %s", localname(l));
	pthread_t t = spawn(serve, &l);

	int fd = must(socket(r->dial_to.sa.sa_family, SOCK_STREAM, 0));
	T(connect(fd, &r->dial_to.sa, r->dial_to.len));
	say("peer %s", peername(fd));
	for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		pattern(out, sizes[i], i);
		write_all(fd, out, sizes[i]);
		ssize_t n = read_all(fd, in, sizes[i]);
		say("echo of %zu: %zd %s", sizes[i], n, memcmp(in, out, sizes[i]) ? "differs" : "same");
	}
	T(shutdown(fd, SHUT_WR));
	T(read(fd, &rest, 1));
	pthread_join(t, NULL);
	T(close(fd));
	T(close(l));
}

int main(void)
{
	struct run runs[] = {
		{"IPv4", ip4("127.0.0.1", 7001), ip4("127.0.0.1", 7001)},
		{"IPv4, another address of the loopback", ip4("127.0.0.5", 7002), ip4("127.0.0.5", 7002)},
		{"IPv4, any", ip4("0.0.0.0", 7003), ip4("127.0.0.1", 7003)},
		{"IPv4, to the unspecified address", ip4("0.0.0.0", 7004), ip4("0.0.0.0", 7004)},
		{"IPv6", ip6("::1", 7005), ip6("::1", 7005)},
		{"IPv6, any", ip6("::", 7006), ip6("::1", 7006)},
		{"IPv6, to the unspecified address", ip6("::", 7007), ip6("::", 7007)},
		{"mapped, both", ip6("::ffff:127.0.0.1", 7008), ip6("::ffff:127.0.0.1", 7008)},
		{"IPv4 client of a dual-stack server", ip6("::", 7009), ip4("127.0.0.1", 7009)},
		{"mapped client of an IPv4 server", ip4("127.0.0.1", 7010), ip6("::ffff:127.0.0.1", 7010)},
	};

	begin();
	for (unsigned i = 0; i < sizeof runs / sizeof *runs; i++)
		echo(&runs[i]);
	return 0;
}

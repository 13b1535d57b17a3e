/* bulk: large transfers both ways at once, blocking and not, with small buffers, by checksum. */
#include "common.h"

struct job {
	int fd;
	uint64_t size, sum;
	int seed;
};

static void *send_all(void *arg)
{
	struct job *j = arg;
	static __thread char buf[61441];
	uint64_t at = 0;

	while (at < j->size) {
		size_t n = j->size - at < sizeof buf ? j->size - at : sizeof buf;
		pattern(buf, n, at + j->seed);
		j->sum = checksum(j->sum, buf, n);
		write_all(j->fd, buf, n);
		at += n;
	}
	must(shutdown(j->fd, SHUT_WR));
	return NULL;
}

static void *recv_all(void *arg)
{
	struct job *j = arg;
	static __thread char buf[50021];
	ssize_t n;

	while ((n = read(j->fd, buf, sizeof buf)) > 0) {
		j->sum = checksum(j->sum, buf, n);
		j->size += n;
	}
	return NULL;
}

static void blocking(const char *label, int family, uint64_t size, int rcvbuf, int sndbuf)
{
	int l = listener(family, 1), p[2];

	if (rcvbuf)
		must(set_int(l, SOL_SOCKET, SO_RCVBUF, rcvbuf));
	p[0] = dial(l);
	p[1] = must(accept(l, NULL, NULL));
	if (sndbuf)
		must(set_int(p[0], SOL_SOCKET, SO_SNDBUF, sndbuf));
	struct job jobs[4] = {{p[0], size, 0, 1}, {p[1], size, 0, 2}, {p[1], 0, 0, 0}, {p[0], 0, 0, 0}};
	pthread_t t[4];
	for (int i = 0; i < 4; i++)
		t[i] = spawn(i < 2 ? send_all : recv_all, &jobs[i]);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	say("%s: %llu there %s, %llu back %s", label, (unsigned long long)jobs[2].size, jobs[0].sum == jobs[2].sum ? "same" : "differs",
	    (unsigned long long)jobs[3].size, jobs[1].sum == jobs[3].sum ? "same" : "differs");
	must(close(p[0]));
	must(close(p[1]));
	must(close(l));
}

/* polled moves data both ways in one thread with poll. */
static void polled(const char *label, int family, uint64_t size, int rcvbuf)
{
	static char out[65536], in[65536];
	int l = listener(family, 1), p[2];
	uint64_t sent[2] = {0, 0}, got[2] = {0, 0}, want[2] = {0, 0}, have[2] = {0, 0};

	if (rcvbuf)
		must(set_int(l, SOL_SOCKET, SO_RCVBUF, rcvbuf));
	p[0] = dial(l);
	p[1] = must(accept(l, NULL, NULL));
	nonblock(p[0], 1);
	nonblock(p[1], 1);
	while (got[0] < size || got[1] < size) {
		struct pollfd pf[2];
		for (int i = 0; i < 2; i++)
			pf[i] = (struct pollfd){p[i], POLLIN | (sent[i] < size ? POLLOUT : 0), 0};
		if (poll(pf, 2, 5000) <= 0) {
			say("%s: stuck", label);
			return;
		}
		for (int i = 0; i < 2; i++) {
			if ((pf[i].revents & POLLOUT) && sent[i] < size) {
				size_t n = size - sent[i] < sizeof out ? size - sent[i] : sizeof out;
				pattern(out, n, sent[i] + i);
				ssize_t w = write(p[i], out, n);
				if (w > 0) {
					want[i] = checksum(want[i], out, w);
					sent[i] += w;
				}
			}
			if (pf[i].revents & POLLIN) {
				ssize_t r = read(p[i], in, sizeof in);
				if (r > 0) {
					have[i] = checksum(have[i], in, r);
					got[i] += r;
				}
			}
		}
	}
	say("%s: %llu %s, %llu %s", label, (unsigned long long)got[0], want[1] == have[0] ? "same" : "differs", (unsigned long long)got[1],
	    want[0] == have[1] ? "same" : "differs");
	must(close(p[0]));
	must(close(p[1]));
	must(close(l));
}

int main(void)
{
	begin();
	blocking("blocking", AF_INET, 8 << 20, 0, 0);
	blocking("blocking, IPv6", AF_INET6, 4 << 20, 0, 0);
	blocking("blocking, small SO_RCVBUF", AF_INET, 1 << 20, 4096, 0);
	blocking("blocking, small SO_SNDBUF", AF_INET, 1 << 20, 0, 4096);
	polled("not blocking", AF_INET, 4 << 20, 0);
	polled("not blocking, IPv6, small SO_RCVBUF", AF_INET6, 1 << 20, 8192);
	return 0;
}

/* many_conns: two thousand connections held by one process, all used. */
#include "common.h"

#define N 2000

static int a[N], b[N];

int main(void)
{
	struct rlimit rl;
	int good = 0, ends = 0;

	begin();
	must(getrlimit(RLIMIT_NOFILE, &rl));
	rl.rlim_cur = rl.rlim_max < 8192 ? rl.rlim_max : 8192;
	must(setrlimit(RLIMIT_NOFILE, &rl));
	int l = listener(AF_INET, 512), ep = must(epoll_create1(0));
	for (int i = 0; i < N; i++) {
		a[i] = dial(l);
		b[i] = must(accept(l, NULL, NULL));
		struct epoll_event ev = {.events = EPOLLIN, .data.u32 = i};
		must(epoll_ctl(ep, EPOLL_CTL_ADD, b[i], &ev));
	}
	say("connected: %d", N);
	for (int i = 0; i < N; i++)
		must(write(a[i], &i, sizeof i));
	for (int left = N; left > 0;) {
		struct epoll_event ev[64];
		int n = epoll_wait(ep, ev, 64, 5000);
		if (n <= 0)
			break;
		for (int k = 0; k < n; k++, left--) {
			int i = ev[k].data.u32, v = -1;
			good += read(b[i], &v, sizeof v) == sizeof v && v == i;
		}
	}
	say("written and read: %d", good);
	for (int i = 0; i < N; i += 2)
		must(close(a[i]));
	for (int i = 0; i < N; i += 2) {
		char c;
		ends += read(b[i], &c, 1) == 0;
	}
	say("ended: %d", ends);
	good = 0;
	for (int i = 1; i < N; i += 2) {
		int v = -1;
		must(write(b[i], &i, sizeof i));
		good += read_all(a[i], &v, sizeof v) == sizeof v && v == i;
	}
	say("the others still work: %d", good);
	return 0;
}

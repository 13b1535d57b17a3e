/* linger: SO_LINGER off, zero and positive. */
#include "common.h"

static void show(int fd)
{
	struct linger li = {-1, -1};
	socklen_t n = sizeof li;

	int r = getsockopt(fd, SOL_SOCKET, SO_LINGER, &li, &n);
	say("linger %d %d, result %d length %u", li.l_onoff, li.l_linger, r, (unsigned)n);
}

static int set(int fd, int on, int seconds)
{
	struct linger li = {on, seconds};

	return setsockopt(fd, SOL_SOCKET, SO_LINGER, &li, sizeof li);
}

int main(void)
{
	int p[2];
	char b[16];
	static char big[1 << 16], sink[1 << 16];

	begin();
	signal(SIGPIPE, SIG_IGN);
	int s = must(socket(AF_INET, SOCK_STREAM, 0));
	show(s);
	T(set(s, 1, 5));
	show(s);
	T(set(s, 5, 0));
	show(s);
	T(set(s, 0, 7));
	show(s);
	T(setsockopt(s, SOL_SOCKET, SO_LINGER, &(int){1}, 4));

	say("-- on, with all sent: close does not wait long");
	tcp_pair(AF_INET, p);
	T(set(p[0], 1, 2));
	must(write(p[0], "end", 3));
	long long t = now_ms();
	T(close(p[0]));
	say("%s", now_ms() - t < 1000 ? "at once" : "late");
	say("read: %s", read_text(p[1], 3));
	T(read(p[1], b, 1));

	say("-- off: close returns and the data still arrive");
	tcp_pair(AF_INET, p);
	nonblock(p[0], 1);
	ssize_t n;
	uint64_t sent = 0, got = 0;
	while ((n = write(p[0], big, sizeof big)) > 0)
		sent += n;
	T(close(p[0]));
	while ((n = read(p[1], sink, sizeof sink)) > 0)
		got += n;
	say("end: %s, %s", outcome(n, errno), sent == got ? "all arrived" : "some were lost");

	say("-- zero with unsent data: reset, and the data are lost");
	tcp_pair(AF_INET, p);
	nonblock(p[0], 1);
	while (write(p[0], big, sizeof big) > 0)
		;
	T(set(p[0], 1, 0));
	T(close(p[0]));
	while ((n = read(p[1], sink, sizeof sink)) > 0)
		;
	say("end: %s", outcome(n, errno));

	say("-- zero, by exit");
	tcp_pair(AF_INET, p);
	pid_t pid = xfork();
	if (pid == 0) {
		must(close(p[1]));
		must(set(p[0], 1, 0));
		_exit(0);
	}
	must(close(p[0]));
	join(pid);
	T(read(p[1], b, 1));

	say("-- zero set by the accepted side is inherited from the listener");
	int l = listener(AF_INET, 1);
	T(set(l, 1, 0));
	int d = dial(l), a = must(accept(l, NULL, NULL));
	show(a);
	must(close(a));
	T(read(d, b, 1));

	say("-- a copy left open: no reset yet");
	tcp_pair(AF_INET, p);
	int c = must(dup(p[0]));
	T(set(p[0], 1, 0));
	T(close(p[0]));
	msleep(20);
	T(recv(p[1], b, 1, MSG_DONTWAIT));
	T(close(c));
	T(read(p[1], b, 1));
	return 0;
}

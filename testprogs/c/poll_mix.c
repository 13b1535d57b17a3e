/* poll_mix: poll and ppoll over sockets, pipes, files and bad descriptors at once. */
#include "common.h"

static void show(const char *label, struct pollfd *p, int n, int timeout)
{
	int r = poll(p, n, timeout);
	char line[512] = "";

	for (int i = 0; i < n; i++)
		snprintf(line + strlen(line), sizeof line - strlen(line), " [%s]", mname(p[i].revents));
	say("%s: %s%s", label, outcome(r, errno), line);
}

static void *later(void *arg)
{
	msleep(50);
	must(write(*(int *)arg, "x", 1));
	return NULL;
}

int main(void)
{
	int conn[2], pipefd[2], sv[2];
	struct addr to;
	char c;

	begin();
	tcp_pair(AF_INET, conn);
	must(pipe(pipefd));
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	int l = listener(AF_INET6, 4), u = udp_on(AF_INET), file = must(open("/dev/zero", O_RDONLY));
	int gone = must(dup(u));
	must(close(gone));
	struct pollfd p[] = {
		{conn[0], POLLIN | POLLOUT | POLLRDHUP, 0}, {conn[1], POLLIN, 0},
		{l, POLLIN, 0},	      {u, POLLIN | POLLOUT, 0},
		{pipefd[0], POLLIN, 0},	      {sv[0], POLLIN | POLLOUT, 0},
		{file, POLLIN, 0},	      {gone, POLLIN, 0},
		{-1, POLLIN, 0},
	};
	int n = sizeof p / sizeof *p;

	show("idle", p, n, 0);
	show("idle, inputs only, times out", (struct pollfd[]){{conn[0], POLLIN, 0}, {l, POLLIN, 0}, {u, POLLIN, 0}, {pipefd[0], POLLIN, 0}}, 4, 30);
	must(write(conn[0], "a", 1));
	await(conn[1], POLLIN);
	show("data on the connection", p, n, 0);
	to = local(u);
	must(sendto(u, "", 0, 0, &to.sa, to.len));
	await(u, POLLIN);
	show("an empty datagram", p, n, 0);
	int d = dial(l);
	await(l, POLLIN);
	show("a pending connection", p, n, 0);
	must(write(pipefd[1], "p", 1));
	must(write(sv[1], "s", 1));
	show("pipe and socketpair", p, n, 0);
	T(read(conn[1], &c, 1));
	T(recv(u, &c, 1, 0));
	int a = F(accept(l, NULL, NULL));
	T(read(pipefd[0], &c, 1));
	show("all read", p, n, 0);
	must(close(conn[0]));
	await(conn[1], POLLIN);
	show("after a close", p, n, 0);

	say("-- a wait that ends by");
	tcp_pair(AF_INET6, conn);
	struct pollfd w[] = {{conn[1], POLLIN, 0}, {pipefd[0], POLLIN, 0}, {u, POLLIN, 0}};
	pthread_t t = spawn(later, &conn[0]);
	show("data on the connection", w, 3, 5000);
	pthread_join(t, NULL);
	T(read(conn[1], &c, 1));
	t = spawn(later, &pipefd[1]);
	show("data on the pipe", w, 3, 5000);
	pthread_join(t, NULL);
	T(read(pipefd[0], &c, 1));
	t = spawn(later, &d);
	struct pollfd w2[] = {{a, POLLIN, 0}, {conn[1], POLLIN, 0}};
	show("data on the accepted one", w2, 2, -1);
	pthread_join(t, NULL);

	say("-- ppoll");
	struct timespec ts = {0, 10000000};
	T(ppoll(w, 3, &ts, NULL));
	T(poll(NULL, 0, 1));
	T(poll((struct pollfd *)1, 1, 0));
	return 0;
}

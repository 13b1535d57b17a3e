/* select_mix: select and pselect over sockets and a pipe. */
#include "common.h"

static struct {
	const char *name;
	int fd;
} watch[8];
static int nwatch;

static void show(const char *label, int r, fd_set *in, fd_set *out, fd_set *ex)
{
	char line[512] = "";

	for (int i = 0; i < nwatch; i++) {
		int fd = watch[i].fd;
		snprintf(line + strlen(line), sizeof line - strlen(line), " %s:%s%s%s", watch[i].name,
			 FD_ISSET(fd, in) ? "r" : "", FD_ISSET(fd, out) ? "w" : "", FD_ISSET(fd, ex) ? "x" : "");
	}
	say("%s: %d%s", label, r, line);
}

static void sel(const char *label)
{
	fd_set in, out, ex;
	int max = 0;
	struct timeval tv = {0, 0};

	FD_ZERO(&in);
	FD_ZERO(&out);
	FD_ZERO(&ex);
	for (int i = 0; i < nwatch; i++) {
		FD_SET(watch[i].fd, &in);
		FD_SET(watch[i].fd, &out);
		FD_SET(watch[i].fd, &ex);
		if (watch[i].fd > max)
			max = watch[i].fd;
	}
	int r = select(max + 1, &in, &out, &ex, &tv);
	show(label, r, &in, &out, &ex);
}

static void *later(void *arg)
{
	msleep(50);
	must(write(*(int *)arg, "x", 1));
	return NULL;
}

int main(void)
{
	int conn[2], pipefd[2];
	fd_set in;
	char c;

	begin();
	tcp_pair(AF_INET, conn);
	must(pipe(pipefd));
	int l = listener(AF_INET, 3), u = udp_on(AF_INET6), fresh = must(socket(AF_INET, SOCK_STREAM, 0));
	nwatch = 0;
	watch[nwatch].name = "dialled", watch[nwatch++].fd = conn[0];
	watch[nwatch].name = "accepted", watch[nwatch++].fd = conn[1];
	watch[nwatch].name = "listener", watch[nwatch++].fd = l;
	watch[nwatch].name = "udp", watch[nwatch++].fd = u;
	watch[nwatch].name = "pipe", watch[nwatch++].fd = pipefd[0];
	watch[nwatch].name = "fresh", watch[nwatch++].fd = fresh;
	sel("idle");
	must(write(conn[0], "abc", 3));
	await(conn[1], POLLIN);
	sel("data");
	int d = dial(l);
	await(l, POLLIN);
	sel("pending connection");
	struct addr to = local(u);
	must(sendto(u, "u", 1, 0, &to.sa, to.len));
	await(u, POLLIN);
	sel("datagram");
	must(shutdown(conn[0], SHUT_WR));
	msleep(20);
	T(recv(conn[1], &c, 1, MSG_PEEK));
	sel("data and half-closed");

	say("-- waits");
	FD_ZERO(&in);
	int a = must(accept(l, NULL, NULL));
	FD_SET(a, &in);
	pthread_t t = spawn(later, &d);
	T(select(a + 1, &in, NULL, NULL, NULL));
	pthread_join(t, NULL);
	T(FD_ISSET(a, &in) != 0);
	T(read(a, &c, 1));
	struct timespec ts = {0, 20000000};
	FD_ZERO(&in);
	FD_SET(a, &in);
	T(pselect(a + 1, &in, NULL, NULL, &ts, NULL));
	int high = must(fcntl(a, F_DUPFD, 500));
	FD_ZERO(&in);
	FD_SET(high, &in);
	must(write(d, "y", 1));
	T(select(high + 1, &in, NULL, NULL, NULL));
	must(close(high));
	FD_ZERO(&in);
	FD_SET(high, &in);
	struct timeval tv = {0, 0};
	T(select(high + 1, &in, NULL, NULL, &tv));
	T(select(-1, NULL, NULL, NULL, &tv));
	return 0;
}

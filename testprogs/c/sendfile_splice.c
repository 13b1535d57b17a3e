/* sendfile_splice: sendfile from a file, splice between pipes and sockets, tee. */
#include "common.h"

#define SIZE 300000

static char data[SIZE], back[SIZE];

static void *drain(void *arg)
{
	int fd = *(int *)arg;
	ssize_t n = read_all(fd, back, SIZE);

	stream = "reader";
	say("%zd %s", n, memcmp(back, data, SIZE) ? "differs" : "same");
	return NULL;
}

static int file_of(const char *p, size_t n)
{
	int fd = must(memfd_create("data", MFD_CLOEXEC));

	write_all(fd, p, n);
	return fd;
}

int main(void)
{
	int p[2], pp[2];
	char b[64];

	begin();
	pattern(data, SIZE, 3);
	int f = file_of(data, SIZE);

	say("-- sendfile");
	tcp_pair(AF_INET, p);
	pthread_t t = spawn(drain, &p[1]);
	off_t off = 0;
	while (off < SIZE)
		must(sendfile(p[0], f, &off, SIZE - off));
	pthread_join(t, NULL);
	say("offset %lld", (long long)off);
	T(sendfile(p[0], f, &off, 100));
	off = SIZE - 5;
	T(sendfile(p[0], f, &off, 100));
	T(read_all(p[1], b, 5));

	say("-- sendfile to a socket that is not connected");
	int s = must(socket(AF_INET, SOCK_STREAM, 0));
	signal(SIGPIPE, SIG_IGN);
	off = 0;
	T(sendfile(s, f, &off, 10));
	say("-- sendfile after the peer went");
	must(shutdown(p[0], SHUT_WR));
	T(sendfile(p[0], f, &off, 10));

	say("-- splice: pipe to socket and back");
	tcp_pair(AF_INET6, p);
	must(pipe(pp));
	must(write(pp[1], "through a pipe", 14));
	T(splice(pp[0], NULL, p[0], NULL, 14, 0));
	say("read: %s", read_text(p[1], 14));
	must(write(p[1], "from a socket", 13));
	await(p[0], POLLIN);
	T(splice(p[0], NULL, pp[1], NULL, 4096, 0));
	say("read: %s", read_text(pp[0], 13));
	nonblock(p[0], 1);
	T(splice(p[0], NULL, pp[1], NULL, 4096, SPLICE_F_NONBLOCK));
	nonblock(p[0], 0);
	must(shutdown(p[1], SHUT_WR));
	await(p[0], POLLIN);
	T(splice(p[0], NULL, pp[1], NULL, 4096, 0));

	say("-- splice: a proxy");
	int q[2];
	tcp_pair(AF_INET, p);
	tcp_pair(AF_INET, q);
	pid_t proxy = xfork();
	if (proxy == 0) {
		ssize_t n;
		must(close(p[0]));
		must(close(q[1]));
		while ((n = splice(p[1], NULL, pp[1], NULL, 65536, SPLICE_F_MOVE)) > 0)
			while (n > 0)
				n -= must(splice(pp[0], NULL, q[0], NULL, n, SPLICE_F_MOVE | SPLICE_F_MORE));
		_exit(n == 0 ? 0 : 1);
	}
	must(close(p[1]));
	must(close(q[0]));
	memset(back, 0, SIZE);
	t = spawn(drain, &q[1]);
	write_all(p[0], data, SIZE);
	must(shutdown(p[0], SHUT_WR));
	pthread_join(t, NULL);
	T(read(q[1], b, 1));
	say("proxy: %s", join(proxy));

	say("-- sendfile on UDP");
	int u = udp_on(AF_INET), v = must(socket(AF_INET, SOCK_DGRAM, 0));
	struct addr to = local(u);
	must(connect(v, &to.sa, to.len));
	off = 0;
	T(sendfile(v, f, &off, 1000));
	T(recv(u, back, SIZE, 0));

	say("-- vmsplice and tee");
	tcp_pair(AF_INET, p);
	struct iovec iov = {"gifted", 6};
	int pq[2];
	must(pipe(pq));
	T(vmsplice(pp[1], &iov, 1, 0));
	T(tee(pp[0], pq[1], 6, 0));
	T(splice(pq[0], NULL, p[0], NULL, 6, 0));
	say("read: %s", read_text(p[1], 6));
	return 0;
}

/* threads: acceptors, clients and readers of one socket as threads of one process. */
#include "common.h"

#define CLIENTS 8
#define ACCEPTORS 4
#define ROUNDS 100

static int lfd;
static int echoed[CLIENTS];

static void *accept_loop(void *arg)
{
	(void)arg;
	for (;;) {
		char b[256];
		ssize_t n;
		int fd = accept(lfd, NULL, NULL);
		if (fd < 0)
			return NULL;
		while ((n = read(fd, b, sizeof b)) > 0)
			write_all(fd, b, n);
		must(close(fd));
	}
}

static void *client(void *arg)
{
	int id = (int)(intptr_t)arg;

	for (int k = 0; k < 3; k++) {
		int fd = dial(lfd);
		for (int i = 0; i < ROUNDS; i++) {
			char out[64], in[64];
			int n = snprintf(out, sizeof out, "client %d round %d", id, i);
			write_all(fd, out, n);
			if (read_all(fd, in, n) == n && memcmp(in, out, n) == 0)
				echoed[id]++;
		}
		must(close(fd));
	}
	return NULL;
}

static void *reader(void *arg)
{
	int *p = arg;
	char c = 0;
	ssize_t n = read(p[0], &c, 1);

	return (void *)(intptr_t)(n == 1 ? c : n);
}

static void *acceptor(void *arg)
{
	int fd = accept(*(int *)arg, NULL, NULL);

	return (void *)(intptr_t)(fd < 0 ? -errno : fd);
}

int main(void)
{
	pthread_t a[ACCEPTORS], c[CLIENTS];
	int p[2], sum = 0;
	void *r;

	begin();
	lfd = listener(AF_INET, 64);
	for (int i = 0; i < ACCEPTORS; i++)
		a[i] = spawn(accept_loop, NULL);
	for (int i = 0; i < CLIENTS; i++)
		c[i] = spawn(client, (void *)(intptr_t)i);
	for (int i = 0; i < CLIENTS; i++) {
		pthread_join(c[i], NULL);
		sum += echoed[i];
	}
	say("echoed: %d of %d", sum, CLIENTS * ROUNDS * 3);
	say("-- shutdown wakes the acceptors");
	T(shutdown(lfd, SHUT_RDWR));
	for (int i = 0; i < ACCEPTORS; i++)
		pthread_join(a[i], NULL);
	say("all ended");
	T(close(lfd));

	say("-- one thread writes what another waits for, on one socket");
	tcp_pair(AF_INET6, p);
	pthread_t t = spawn(reader, p);
	msleep(20);
	T(write(p[1], "z", 1));
	pthread_join(t, &r);
	say("reader: %d", (int)(intptr_t)r);
	say("-- shutdown in one thread ends the read of another");
	t = spawn(reader, p);
	msleep(20);
	T(shutdown(p[0], SHUT_RD));
	pthread_join(t, &r);
	say("reader: %d", (int)(intptr_t)r);
	say("-- a call blocks in one thread, others go on");
	lfd = listener(AF_INET, 4);
	t = spawn(acceptor, &lfd);
	msleep(20);
	say("listener: %s", get_int(lfd, SOL_SOCKET, SO_ACCEPTCONN) == 1 ? "listens" : "does not");
	int d = dial(lfd);
	pthread_join(t, &r);
	say("acceptor: %s", (intptr_t)r >= 0 ? "ok" : ename(-(int)(intptr_t)r));
	T(write((int)(intptr_t)r, "k", 1));
	say("read: %s", read_text(d, 1));
	return sum == CLIENTS * ROUNDS * 3 ? 0 : 1;
}

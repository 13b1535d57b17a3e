/* accept_fork: a child for each connection, the listener in the parent. */
#include "common.h"

#define CLIENTS 8

static void child(int fd)
{
	char line[64];
	ssize_t n;

	while ((n = read(fd, line, sizeof line)) > 0) {
		for (ssize_t i = 0; i < n; i++)
			if (line[i] >= 'a' && line[i] <= 'z')
				line[i] -= 32;
		write_all(fd, line, n);
	}
	_exit(n == 0 ? 7 : 8);
}

static void server(int l)
{
	pid_t pids[CLIENTS];

	stream = "server";
	for (int i = 0; i < CLIENTS; i++) {
		struct addr from = {.len = sizeof from.ss};
		int fd = must(accept(l, &from.sa, &from.len));
		pids[i] = xfork();
		if (pids[i] == 0) {
			must(close(l));
			child(fd);
		}
		must(close(fd));
	}
	must(close(l));
	for (int i = 0; i < CLIENTS; i++)
		say("child %s", join(pids[i]));
	_exit(0);
}

int main(void)
{
	int fds[CLIENTS];
	char c;

	begin();
	int l = listener(AF_INET, CLIENTS);
	struct addr to = local(l);
	pid_t srv = xfork();
	if (srv == 0)
		server(l);
	T(close(l));
	for (int i = 0; i < CLIENTS; i++) {
		fds[i] = must(socket(AF_INET, SOCK_STREAM, 0));
		T(connect(fds[i], &to.sa, to.len));
	}
	for (int i = CLIENTS - 1; i >= 0; i--) {
		char text[32];
		int n = snprintf(text, sizeof text, "client %d", i);
		write_all(fds[i], text, n);
		say("%s", read_text(fds[i], n));
	}
	for (int i = 0; i < CLIENTS; i++) {
		must(shutdown(fds[i], SHUT_WR));
		T(read(fds[i], &c, 1));
		must(close(fds[i]));
	}
	say("server: %s", join(srv));
	int fd = must(socket(AF_INET, SOCK_STREAM, 0));
	T(connect(fd, &to.sa, to.len));
	return 0;
}

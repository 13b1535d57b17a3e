/* proto253: an echo server and client of socket(AF_INET, SOCK_STREAM, 253), or of
 * another protocol: proto253 [-4|-6] [-p NUMBER] serve ADDR PORT CONNECTIONS
 *                  proto253 [-4|-6] [-p NUMBER] echo ADDR PORT <in >out
 * The server forks for each connection. Built static, to show that no library is
 * involved. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void check(int ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "proto253: %s: %s\n", what, strerror(errno));
		exit(1);
	}
}

static void all(int fd, const char *p, ssize_t n)
{
	while (n > 0) {
		ssize_t k = write(fd, p, n);
		check(k > 0, "write");
		p += k;
		n -= k;
	}
}

/* What is read goes back, until the peer's end. */
static void echo(int c)
{
	char b[1 << 16];
	ssize_t n;
	while ((n = read(c, b, sizeof b)) > 0)
		all(c, b, n);
	check(n == 0, "read");
}

/* Standard input goes out and what comes back to standard output, both at once. */
static void client(int s)
{
	char out[1 << 16], in[1 << 16];
	struct pollfd p = {.fd = s, .events = POLLIN | POLLOUT};
	ssize_t have = 0, off = 0, n;
	for (;;) {
		check(poll(&p, 1, -1) > 0, "poll");
		if (p.revents & POLLOUT) {
			if (off == have) {
				have = read(0, out, sizeof out);
				off = 0;
				check(have >= 0, "read standard input");
				if (have == 0) {
					check(shutdown(s, SHUT_WR) == 0, "shutdown");
					p.events = POLLIN;
				}
			}
			if (off < have) {
				n = send(s, out + off, have - off, MSG_DONTWAIT);
				check(n > 0 || errno == EAGAIN, "send");
				off += n > 0 ? n : 0;
			}
		}
		if (p.revents & (POLLIN | POLLHUP | POLLERR)) {
			n = read(s, in, sizeof in);
			check(n >= 0, "read");
			if (n == 0)
				return;
			all(1, in, n);
		}
	}
}

int main(int argc, char **argv)
{
	int o, family = AF_INET, number = 253;
	while ((o = getopt(argc, argv, "46p:")) != -1) {
		if (o == '4')
			family = AF_INET;
		else if (o == '6')
			family = AF_INET6;
		else if (o == 'p')
			number = atoi(optarg);
		else
			return 2;
	}
	argv += optind;
	argc -= optind;
	if (argc < 3) {
		fprintf(stderr, "proto253 [-4|-6] [-p NUMBER] serve|echo ADDR PORT [CONNECTIONS]\n");
		return 2;
	}
	union {
		struct sockaddr sa;
		struct sockaddr_in in;
		struct sockaddr_in6 in6;
	} a = {.sa = {.sa_family = family}};
	socklen_t len = family == AF_INET ? sizeof a.in : sizeof a.in6;
	void *ip = family == AF_INET ? (void *)&a.in.sin_addr : (void *)&a.in6.sin6_addr;
	a.in.sin_port = htons(atoi(argv[2])); /* at the same place in both */
	check(inet_pton(family, argv[1], ip) == 1, "address");
	int s = socket(family, SOCK_STREAM, number);
	check(s >= 0, "socket");
	int got = 0;
	socklen_t n = sizeof got;
	check(getsockopt(s, SOL_SOCKET, SO_PROTOCOL, &got, &n) == 0 && got == number, "SO_PROTOCOL");
	if (strcmp(argv[0], "echo") == 0) {
		check(connect(s, &a.sa, len) == 0, "connect");
		client(s);
		return 0;
	}
	check(bind(s, &a.sa, len) == 0, "bind");
	check(listen(s, 16) == 0, "listen");
	int left = argc > 3 ? atoi(argv[3]) : 1, children = left;
	for (; left > 0; left--) {
		int c = accept(s, NULL, NULL);
		check(c >= 0, "accept");
		pid_t pid = fork();
		check(pid >= 0, "fork");
		if (pid == 0) {
			close(s);
			echo(c);
			return 0;
		}
		close(c);
	}
	for (int bad = 0; children > 0; children--) {
		int st;
		check(wait(&st) > 0, "wait");
		if ((bad |= st) && children == 1)
			return 1;
	}
	return 0;
}

/* oob: urgent data: MSG_OOB, SO_OOBINLINE, SIOCATMARK, POLLPRI and SIGURG. */
#include "common.h"

static volatile sig_atomic_t urgent;

static void on_urg(int sig)
{
	(void)sig;
	urgent++;
}

static int at_mark(int fd)
{
	int m = -1;

	return ioctl(fd, SIOCATMARK, &m) < 0 ? -1 : m;
}

static void out_of_line(void)
{
	int p[2];
	char b[32];

	say("-- out of line");
	tcp_pair(AF_INET, p);
	T(recv(p[1], b, 1, MSG_OOB));
	must(write(p[0], "ab", 2));
	if (T(send(p[0], "!", 1, MSG_OOB)) < 0)
		return;
	must(write(p[0], "cd", 2));
	mask("mask", p[1], POLLIN | POLLPRI | POLLOUT);
	T(recv(p[1], b, 1, MSG_OOB | MSG_PEEK));
	T(recv(p[1], b, 1, MSG_OOB));
	say("the byte: %#x", b[0]);
	T(recv(p[1], b, 1, MSG_OOB));
	say("at mark: %d", at_mark(p[1]));
	msleep(20);
	T(read(p[1], b, sizeof b));
	say("at mark: %d", at_mark(p[1]));
	T(read(p[1], b, sizeof b));
	mask("mask", p[1], POLLOUT);
}

static void in_line(void)
{
	int p[2];
	char b[32];

	say("-- in line");
	tcp_pair(AF_INET6, p);
	must(set_int(p[1], SOL_SOCKET, SO_OOBINLINE, 1));
	must(write(p[0], "ab", 2));
	if (T(send(p[0], "xy", 2, MSG_OOB)) < 0)
		return;
	must(write(p[0], "cd", 2));
	msleep(30);
	T(recv(p[1], b, 1, MSG_OOB));
	T(read(p[1], b, sizeof b));
	say("at mark: %d", at_mark(p[1]));
	ssize_t n = T(read(p[1], b, sizeof b));
	say("then %.*s", (int)n, b);
}

static void signalled(void)
{
	int p[2];

	say("-- SIGURG");
	tcp_pair(AF_INET, p);
	handle(SIGURG, on_urg, SA_RESTART);
	T(fcntl(p[1], F_SETOWN, getpid()));
	if (T(send(p[0], "!", 1, MSG_OOB)) < 0)
		return;
	for (int i = 0; i < 100 && !urgent; i++)
		msleep(5);
	say("signals: %d", urgent > 0);
}

int main(void)
{
	int p[2];
	char b[32];

	begin();
	out_of_line();
	in_line();
	signalled();
	say("-- nothing urgent was sent");
	tcp_pair(AF_INET, p);
	must(write(p[0], "ab", 2));
	await(p[1], POLLIN);
	T(recv(p[1], b, 1, MSG_OOB));
	say("at mark: %d", at_mark(p[1]));
	T(read(p[1], b, sizeof b));
	say("-- not on these");
	int s = must(socket(AF_INET, SOCK_STREAM, 0));
	T(recv(s, b, 1, MSG_OOB));
	int l = listener(AF_INET, 1);
	T(recv(l, b, 1, MSG_OOB));
	return 0;
}

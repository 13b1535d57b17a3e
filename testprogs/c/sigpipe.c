/* sigpipe: which writes raise SIGPIPE. */
#include "common.h"

static volatile sig_atomic_t pipes;

static void on_pipe(int sig)
{
	(void)sig;
	pipes++;
}

/* dead gives a connection that has received a reset, and has told it. */
static int dead(int family)
{
	int p[2];
	char c;
	struct linger li = {1, 0};

	tcp_pair(family, p);
	must(setsockopt(p[1], SOL_SOCKET, SO_LINGER, &li, sizeof li));
	must(close(p[1]));
	await(p[0], POLLERR);
	msleep(10);
	(void)!read(p[0], &c, 1);
	return p[0];
}

#define P(expr) do {                                             \
	pipes = 0;                                               \
	errno = 0;                                               \
	long r_ = (long)(expr);                                  \
	int e_ = errno;                                          \
	for (int i_ = 0; r_ < 0 && !pipes && i_ < 10; i_++)      \
		msleep(3);                                       \
	say("%s: %s, SIGPIPE %d", #expr, outcome(r_, e_), (int)pipes); \
} while (0)

int main(void)
{
	struct iovec iov = {"xy", 2};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	struct mmsghdr mm = {.msg_hdr = {.msg_iov = &iov, .msg_iovlen = 1}};

	begin();
	handle(SIGPIPE, on_pipe, 0);
	int s = dead(AF_INET);
	P(write(s, "x", 1));
	P(send(s, "x", 1, 0));
	P(send(s, "x", 1, MSG_NOSIGNAL));
	P(sendto(s, "x", 1, 0, NULL, 0));
	struct addr to = ip4("127.0.0.1", 9);
	P(sendto(s, "x", 1, 0, &to.sa, to.len));
	P(sendto(s, "x", 1, MSG_NOSIGNAL, &to.sa, to.len));
	P(writev(s, &iov, 1));
	P(sendmsg(s, &m, 0));
	P(sendmsg(s, &m, MSG_NOSIGNAL));
	P(sendmmsg(s, &mm, 1, 0));
	P(sendmmsg(s, &mm, 1, MSG_NOSIGNAL));
	P(write(s, "", 0));
	say("-- after the own SHUT_WR");
	int p[2];
	tcp_pair(AF_INET6, p);
	must(shutdown(p[0], SHUT_WR));
	P(write(p[0], "x", 1));
	P(send(p[0], "x", 1, MSG_NOSIGNAL));
	say("-- never connected");
	s = must(socket(AF_INET, SOCK_STREAM, 0));
	P(write(s, "x", 1));
	P(send(s, "x", 1, MSG_NOSIGNAL));
	P(sendmsg(s, &m, 0));
	say("-- a listener");
	s = listener(AF_INET, 1);
	P(write(s, "x", 1));
	say("-- UDP after SHUT_WR");
	s = udp_on(AF_INET);
	to = local(s);
	must(connect(s, &to.sa, to.len));
	must(shutdown(s, SHUT_WR));
	P(write(s, "x", 1));
	P(send(s, "x", 1, MSG_NOSIGNAL));

	say("-- by default it kills");
	pid_t pid = xfork();
	if (pid == 0) {
		signal(SIGPIPE, SIG_DFL);
		s = dead(AF_INET);
		(void)!write(s, "x", 1);
		_exit(1);
	}
	say("write: %s", join(pid));
	pid = xfork();
	if (pid == 0) {
		signal(SIGPIPE, SIG_DFL);
		s = dead(AF_INET);
		sendmsg(s, &m, 0);
		_exit(1);
	}
	say("sendmsg: %s", join(pid));
	signal(SIGPIPE, SIG_IGN);
	s = dead(AF_INET);
	say("-- ignored");
	P(write(s, "x", 1));
	P(sendmsg(s, &m, 0));
	return 0;
}

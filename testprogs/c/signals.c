/*
 * signals: a handler that runs while a call blocks, with SA_RESTART and
 * without, and with a timeout set (which makes Linux answer EINTR always).
 */
#include "common.h"

static volatile sig_atomic_t handled;
static pthread_t main_thread;

/* what the second knock does: makes a restarted call end */
static void (*relief)(void);

static int sock, other;

static void on_usr1(int sig)
{
	(void)sig;
	handled++;
}

/* knock signals the main thread twice, then lets the call succeed. */
static void *knock(void *arg)
{
	(void)arg;
	for (int i = 0; i < 2; i++) {
		msleep(40);
		pthread_kill(main_thread, SIGUSR1);
	}
	msleep(40);
	if (relief)
		relief();
	return NULL;
}

static void give_byte(void)
{
	must(send(other, "x", 1, 0));
}

static void give_connection(void)
{
	other = dial(sock);
}

static void give_datagram(void)
{
	struct addr to = local(sock);

	must(sendto(other, "d", 1, 0, &to.sa, to.len));
}

static void take_all(void)
{
	static char b[1 << 16];

	nonblock(other, 1);
	for (int idle = 0; idle < 20;)
		if (read(other, b, sizeof b) > 0)
			idle = 0;
		else
			idle++, msleep(2);
}

#define INTERRUPT(label, flags, how, call) do {                          \
	handle(SIGUSR1, on_usr1, flags);                                 \
	handled = 0;                                                     \
	relief = how;                                                    \
	pthread_t t_ = spawn(knock, NULL);                               \
	errno = 0;                                                       \
	long r_ = (long)(call);                                          \
	int e_ = errno;                                                  \
	int seen_ = handled;                                             \
	pthread_join(t_, NULL);                                          \
	say("%s%s: %s, handled %s", label, (flags) ? ", SA_RESTART" : "", r_ >= 0 ? "ok" : ename(e_), \
	    seen_ == 0 ? "none" : seen_ == 1 ? "one" : "two");             \
} while (0)

static void both(int flags)
{
	int p[2];
	char b[16];
	struct addr from;
	struct iovec iov = {b, sizeof b};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	static char big[1 << 20];

	from.len = sizeof from.ss;
	sock = listener(AF_INET, 3);
	INTERRUPT("accept", flags, give_connection, accept(sock, NULL, NULL));
	if (!flags)
		must(close(must(accept(sock, NULL, NULL))));
	INTERRUPT("accept with an address", flags, give_connection, accept(sock, &from.sa, &from.len));
	if (!flags)
		must(close(must(accept(sock, NULL, NULL))));
	set_timeo(sock, SO_RCVTIMEO, 5000);
	INTERRUPT("accept with SO_RCVTIMEO", flags, NULL, accept(sock, NULL, NULL));

	tcp_pair(AF_INET, p);
	sock = p[1], other = p[0];
	INTERRUPT("read", flags, give_byte, read(sock, b, 1));
	if (!flags)
		must(read(sock, b, 1));
	INTERRUPT("recv", flags, give_byte, recv(sock, b, 1, 0));
	if (!flags)
		must(read(sock, b, 1));
	INTERRUPT("recvfrom", flags, give_byte, recvfrom(sock, b, 1, 0, &from.sa, &from.len));
	if (!flags)
		must(read(sock, b, 1));
	INTERRUPT("recvmsg", flags, give_byte, recvmsg(sock, &m, 0));
	if (!flags)
		must(read(sock, b, 1));
	INTERRUPT("poll", flags, give_byte, poll(&(struct pollfd){sock, POLLIN, 0}, 1, 5000));
	must(read(sock, b, 1));
	set_timeo(sock, SO_RCVTIMEO, 5000);
	INTERRUPT("recv with SO_RCVTIMEO", flags, NULL, recv(sock, b, 1, 0));

	tcp_pair(AF_INET, p);
	sock = p[0], other = p[1];
	nonblock(sock, 1);
	for (int idle = 0; idle < 30;)
		if (write(sock, big, sizeof big) > 0)
			idle = 0;
		else
			idle++, msleep(10); /* a probe of a zero window may find room, RFC 9293 3.8.6.1 */
	nonblock(sock, 0);
	/* restarted or not, how much room a full queue still has is the kernel's affair */
	handle(SIGUSR1, on_usr1, flags);
	handled = 0;
	relief = take_all;
	pthread_t t = spawn(knock, NULL);
	ssize_t r = write(sock, b, 1);
	say("write to a full queue%s: %s, handled %s", flags ? ", SA_RESTART" : "", r >= 0 ? "ok" : ename(errno), handled ? "some" : "none");
	pthread_join(t, NULL);
	must(close(p[0]));
	must(close(p[1]));

	sock = udp_on(AF_INET), other = udp_on(AF_INET);
	INTERRUPT("UDP recv", flags, give_datagram, recv(sock, b, sizeof b, 0));
	if (!flags)
		must(recv(sock, b, sizeof b, 0));
	INTERRUPT("UDP recvfrom with an address", flags, give_datagram, recvfrom(sock, b, sizeof b, 0, &from.sa, &from.len));
	if (!flags)
		must(recv(sock, b, sizeof b, 0));
	INTERRUPT("UDP recvmsg", flags, give_datagram, recvmsg(sock, &m, 0));
	if (!flags)
		must(recv(sock, b, sizeof b, 0));
	set_timeo(sock, SO_RCVTIMEO, 5000);
	INTERRUPT("UDP recvfrom with SO_RCVTIMEO", flags, NULL, recvfrom(sock, b, sizeof b, 0, &from.sa, &from.len));
}

int main(void)
{
	begin();
	main_thread = pthread_self();
	both(0);
	both(SA_RESTART);
	return 0;
}

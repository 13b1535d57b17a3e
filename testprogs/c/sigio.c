/* sigio: O_ASYNC by FIOASYNC and fcntl: SIGIO when something happens. */
#include "common.h"

static volatile sig_atomic_t got;

static void on_io(int sig)
{
	(void)sig;
	got++;
}

static void wait_for(const char *label)
{
	for (int i = 0; i < 200 && !got; i++)
		msleep(5);
	say("%s: %s", label, got ? "SIGIO" : "none");
	msleep(20);
	got = 0;
}

int main(void)
{
	int p[2], on = 1;
	char c;

	begin();
	handle(SIGIO, on_io, SA_RESTART);
	tcp_pair(AF_INET, p);
	T(fcntl(p[1], F_SETOWN, getpid()));
	T(fcntl(p[1], F_GETOWN) == getpid());
	T(ioctl(p[1], FIOASYNC, &on));
	T((fcntl(p[1], F_GETFL) & O_ASYNC) != 0);
	got = 0;
	must(write(p[0], "x", 1));
	wait_for("data");
	T(read(p[1], &c, 1));
	must(close(p[0]));
	wait_for("FIN");
	int l = listener(AF_INET6, 2);
	T(fcntl(l, F_SETOWN, getpid()));
	T(fcntl(l, F_SETFL, O_ASYNC | O_NONBLOCK));
	got = 0;
	dial(l);
	wait_for("connection");
	F(accept(l, NULL, NULL));
	int u = udp_on(AF_INET);
	T(fcntl(u, F_SETOWN, getpid()));
	T(fcntl(u, F_SETFL, O_ASYNC));
	struct addr to = local(u);
	got = 0;
	must(sendto(u, "u", 1, 0, &to.sa, to.len));
	wait_for("datagram");
	T(fcntl(u, F_SETFL, 0));
	must(sendto(u, "u", 1, 0, &to.sa, to.len));
	for (int i = 0; i < 10; i++)
		msleep(5);
	say("off again: %s", got ? "SIGIO" : "none");
	return 0;
}

/* connect_timeout: connects that nobody answers, because the listener's queue is full. */
#include "common.h"

static struct addr full(int *l)
{
	*l = listener(AF_INET, 0);
	dial(*l);
	msleep(20); /* the listener has it too */
	return local(*l);
}

static const char *about(long long ms, int lo, int hi)
{
	char *s = scratch();

	if (ms >= lo && ms <= hi)
		return "in time";
	snprintf(s, 512, "after %lld ms, not %d to %d", ms, lo, hi);
	return s;
}

int main(void)
{
	int l;
	char c;

	begin();
	signal(SIGPIPE, SIG_IGN);
	struct addr to = full(&l);

	say("-- not blocking");
	int s = must(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	T(connect(s, &to.sa, to.len));
	T(connect(s, &to.sa, to.len));
	msleep(50);
	T(connect(s, &to.sa, to.len));
	say("mask %s", mname(mask_now(s)));
	T(read(s, &c, 1));
	T(write(s, "x", 1));
	say("peer %s", peername(s));
	say("local %s", localname(s));
	say("SO_ERROR %s", so_error(s));
	say("-- blocking calls on it");
	set_timeo(s, SO_RCVTIMEO, 50);
	nonblock(s, 0);
	T(read(s, &c, 1));
	say("-- room in the queue: the SYN's retransmission gets in");
	nonblock(s, 1);
	must(accept(l, NULL, NULL));
	mask("connected", s, POLLOUT);
	T(write(s, "x", 1));
	int a = F(accept(l, NULL, NULL));
	say("read: %s", read_text(a, 1));

	say("-- SO_SNDTIMEO");
	to = full(&l);
	s = must(socket(AF_INET, SOCK_STREAM, 0));
	set_timeo(s, SO_SNDTIMEO, 200);
	long long t = now_ms();
	T(connect(s, &to.sa, to.len));
	say("%s", about(now_ms() - t, 150, 900));
	T(connect(s, &to.sa, to.len));

	say("-- TCP_USER_TIMEOUT");
	s = must(socket(AF_INET, SOCK_STREAM, 0));
	must(set_int(s, IPPROTO_TCP, TCP_USER_TIMEOUT, 500));
	set_timeo(s, SO_SNDTIMEO, 4000);
	t = now_ms();
	if (T(connect(s, &to.sa, to.len)) < 0 && errno == ETIMEDOUT)
		say("%s", about(now_ms() - t, 400, 3000));

	say("-- TCP_SYNCNT");
	arm(); /* what came before may have used up the patience */
	s = must(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
	must(set_int(s, IPPROTO_TCP, TCP_SYNCNT, 1));
	t = now_ms();
	T(connect(s, &to.sa, to.len));
	struct pollfd p = {s, POLLOUT, 0};
	if (T(poll(&p, 1, 5000)) == 1)
		say("%s", about(now_ms() - t, 2000, 4500));
	say("SO_ERROR %s", so_error(s));
	return 0;
}

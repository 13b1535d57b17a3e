/* signal_connect: a handler that runs while connect blocks, with SA_RESTART and without. */
#include "common.h"

static volatile sig_atomic_t handled;
static int l;

static void on_usr1(int sig)
{
	(void)sig;
	handled++;
}

static void *knock(void *arg)
{
	msleep(50);
	pthread_kill(*(pthread_t *)arg, SIGUSR1);
	msleep(50);
	must(accept(l, NULL, NULL)); /* room for the SYN's retransmission */
	return NULL;
}

int main(void)
{
	pthread_t me = pthread_self();

	begin();
	for (int flags = 0; ; flags = SA_RESTART) {
		say("-- %s", flags ? "SA_RESTART" : "no SA_RESTART");
		l = listener(AF_INET, 0);
		struct addr to = local(l);
		dial(l);
		handle(SIGUSR1, on_usr1, flags);
		handled = 0;
		int s = must(socket(AF_INET, SOCK_STREAM, 0));
		pthread_t t = spawn(knock, &me);
		T(connect(s, &to.sa, to.len));
		say("handled %d", handled);
		if (!flags) {
			nonblock(s, 1);
			T(connect(s, &to.sa, to.len));
			nonblock(s, 0);
		}
		pthread_join(t, NULL);
		mask("then", s, POLLOUT);
		say("SO_ERROR %s", so_error(s));
		L("connected", send(s, "x", 1, 0));
		if (flags)
			break;
	}
	say("-- with SO_SNDTIMEO");
	l = listener(AF_INET, 0);
	struct addr to = local(l);
	dial(l);
	int s = must(socket(AF_INET, SOCK_STREAM, 0));
	set_timeo(s, SO_SNDTIMEO, 4000);
	pthread_t t = spawn(knock, &me);
	T(connect(s, &to.sa, to.len));
	pthread_join(t, NULL);
	return 0;
}

/* opts_tcp: the options of IPPROTO_TCP, before, while and after a connection. */
#include "options.h"

#ifndef TCP_INQ
#define TCP_INQ 36
#endif

static const struct option all[] = {
	OPT(IPPROTO_TCP, TCP_NODELAY), OPT(IPPROTO_TCP, TCP_MAXSEG), OPT(IPPROTO_TCP, TCP_CORK), OPT(IPPROTO_TCP, TCP_KEEPIDLE),
	OPT(IPPROTO_TCP, TCP_KEEPINTVL), OPT(IPPROTO_TCP, TCP_KEEPCNT), OPT(IPPROTO_TCP, TCP_SYNCNT), OPT(IPPROTO_TCP, TCP_LINGER2),
	OPT(IPPROTO_TCP, TCP_DEFER_ACCEPT), OPT(IPPROTO_TCP, TCP_WINDOW_CLAMP), OPT(IPPROTO_TCP, TCP_QUICKACK),
	OPT(IPPROTO_TCP, TCP_THIN_LINEAR_TIMEOUTS), OPT(IPPROTO_TCP, TCP_THIN_DUPACK), OPT(IPPROTO_TCP, TCP_USER_TIMEOUT),
	OPT(IPPROTO_TCP, TCP_FASTOPEN), OPT(IPPROTO_TCP, TCP_NOTSENT_LOWAT), OPT(IPPROTO_TCP, TCP_SAVE_SYN),
	OPT(IPPROTO_TCP, TCP_FASTOPEN_CONNECT), OPT(IPPROTO_TCP, TCP_FASTOPEN_NO_COOKIE), OPT(IPPROTO_TCP, TCP_REPAIR), OPT(IPPROTO_TCP, TCP_INQ),
	OPT(IPPROTO_TCP, TCP_TX_DELAY), {IPPROTO_TCP, 9999, "unknown option 9999"}, {IPPROTO_TCP, 0, "option 0"},
};

static const char *congestion(int fd)
{
	char *s = scratch();
	socklen_t n = 16;

	memset(s, 0, 32);
	if (getsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, s, &n) < 0)
		return outcome(-1, errno);
	return s;
}

int main(void)
{
	static const int values[] = {0, 1, 2, 7, 100, 127, 128, 255, 1000, 32767, 32768, 65536, -1};
	static const int picked[] = {0, 2, 3, 4, 5, 6, 7, 8, 9, 13, 15, 22};
	char b[256];
	int p[2];

	begin();
	for (int i = 0; i < 2; i++) {
		say("-- %s", option_sockets[i].label);
		int s = must(socket(option_sockets[i].family, option_sockets[i].type, 0));
		option_defaults(s, all, COUNT(all));
		for (int k = 0; k < COUNT(picked); k++)
			option_values(s, &all[picked[k]], values, COUNT(values));
		option_values(s, &all[1], values, COUNT(values));
		option_sizes(s, &all[0]);
		option_sizes(s, &all[3]);
		must(close(s));
	}
	say("-- connected");
	tcp_pair(AF_INET, p);
	say("TCP_NODELAY %d TCP_CORK %d", get_int(p[0], IPPROTO_TCP, TCP_NODELAY), get_int(p[0], IPPROTO_TCP, TCP_CORK));
	T(set_int(p[0], IPPROTO_TCP, TCP_CORK, 1));
	must(write(p[0], "held", 4));
	msleep(20);
	T(recv(p[1], b, sizeof b, MSG_DONTWAIT));
	T(set_int(p[0], IPPROTO_TCP, TCP_CORK, 0));
	say("read: %s", read_text(p[1], 4));
	T(set_int(p[0], IPPROTO_TCP, TCP_QUICKACK, 1));
	T(set_int(p[0], IPPROTO_TCP, TCP_SYNCNT, 3));
	T(set_int(p[0], IPPROTO_TCP, TCP_DEFER_ACCEPT, 3));
	T(set_int(p[0], IPPROTO_TCP, TCP_MAXSEG, 1000));
	say("-- TCP_INFO");
	struct tcp_info ti;
	memset(&ti, 0, sizeof ti);
	socklen_t n = sizeof ti;
	T(getsockopt(p[0], IPPROTO_TCP, TCP_INFO, &ti, &n));
	say("length %u state %u retransmits %u", (unsigned)n, ti.tcpi_state, ti.tcpi_retransmits);
	say("cwnd positive %d, rtt positive %d, rto positive %d, mss positive %d", ti.tcpi_snd_cwnd > 0, ti.tcpi_rtt > 0, ti.tcpi_rto > 0, ti.tcpi_snd_mss > 0);
	n = 1;
	T(getsockopt(p[0], IPPROTO_TCP, TCP_INFO, &ti, &n));
	say("length %u", (unsigned)n);
	n = 0;
	T(getsockopt(p[0], IPPROTO_TCP, TCP_INFO, &ti, &n));
	T(setsockopt(p[0], IPPROTO_TCP, TCP_INFO, &ti, sizeof ti));
	static const char *names[] = {"fresh", "bound", "listening"};
	int s = must(socket(AF_INET, SOCK_STREAM, 0));
	for (int i = 0; i < 3; i++) {
		struct addr a = ip4("127.0.0.1", 0);
		if (i == 1)
			must(bind(s, &a.sa, a.len));
		if (i == 2)
			must(listen(s, 7));
		n = sizeof ti;
		must(getsockopt(s, IPPROTO_TCP, TCP_INFO, &ti, &n));
		say("%s: state %u", names[i], ti.tcpi_state);
	}
	say("listening: backlog %u pending %u", ti.tcpi_sacked, ti.tcpi_unacked);
	must(shutdown(p[0], SHUT_WR));
	for (int i = 0; i < 2; i++) {
		for (int k = 0; k < 200; k++) { /* until the FIN is acknowledged */
			n = sizeof ti;
			must(getsockopt(p[i], IPPROTO_TCP, TCP_INFO, &ti, &n));
			if (ti.tcpi_state == (i ? TCP_CLOSE_WAIT : TCP_FIN_WAIT2))
				break;
			msleep(10);
		}
		say("half-closed, end %d: state %u", i, ti.tcpi_state);
	}
	say("-- TCP_CONGESTION");
	s = must(socket(AF_INET, SOCK_STREAM, 0));
	say("by default: %s", strchr("bcr", congestion(s)[0]) ? "known" : congestion(s));
	T(setsockopt(s, IPPROTO_TCP, TCP_CONGESTION, "reno", 4));
	say("then: %s", congestion(s));
	T(setsockopt(s, IPPROTO_TCP, TCP_CONGESTION, "nonesuch", 8));
	T(setsockopt(s, IPPROTO_TCP, TCP_CONGESTION, "", 0));
	n = 3;
	memset(b, 0, sizeof b);
	T(getsockopt(s, IPPROTO_TCP, TCP_CONGESTION, b, &n));
	say("in 3 bytes: %.3s, length %u", b, (unsigned)n);
	say("-- inherited by accept");
	int l = listener(AF_INET, 1);
	must(set_int(l, IPPROTO_TCP, TCP_NODELAY, 1));
	must(set_int(l, IPPROTO_TCP, TCP_KEEPIDLE, 77));
	must(set_int(l, IPPROTO_TCP, TCP_USER_TIMEOUT, 12345));
	must(setsockopt(l, IPPROTO_TCP, TCP_CONGESTION, "reno", 4));
	dial(l);
	int a = must(accept(l, NULL, NULL));
	say("TCP_NODELAY %d TCP_KEEPIDLE %d TCP_USER_TIMEOUT %d TCP_CONGESTION %s", get_int(a, IPPROTO_TCP, TCP_NODELAY),
	    get_int(a, IPPROTO_TCP, TCP_KEEPIDLE), get_int(a, IPPROTO_TCP, TCP_USER_TIMEOUT), congestion(a));
	say("-- TCP_DEFER_ACCEPT");
	l = listener(AF_INET, 4);
	T(set_int(l, IPPROTO_TCP, TCP_DEFER_ACCEPT, 5));
	int d = dial(l);
	msleep(50);
	say("without data: %s", mname(mask_now(l)));
	must(write(d, "x", 1));
	mask("with data", l, POLLIN);
	T(getsockopt(l, IPPROTO_TCP, TCP_MD5SIG, b, &n));
	T(setsockopt(l, IPPROTO_TCP, TCP_ULP, "tls", 3));
	return 0;
}

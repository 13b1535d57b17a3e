/* poll_udp_states: the poll mask of a UDP socket in every state. */
#include "common.h"

static void run(int family)
{
	char c;

	say("-- %s", family == AF_INET ? "IPv4" : "IPv6");
	int s = must(socket(family, SOCK_DGRAM, 0));
	mask("fresh", s, POLLOUT);
	struct addr a = loop(family, 0);
	must(bind(s, &a.sa, a.len));
	mask("bound", s, POLLOUT);
	int t = udp_on(family);
	struct addr st = local(s), tt = local(t);
	must(connect(t, &st.sa, st.len));
	mask("connected", t, POLLOUT);
	must(send(t, "x", 1, 0));
	mask("datagram", s, POLLIN | POLLOUT);
	must(send(t, "", 0, 0));
	T(recv(s, &c, 1, 0));
	mask("empty datagram", s, POLLIN | POLLOUT);
	T(recv(s, &c, 1, 0));
	mask("all read", s, POLLOUT);
	must(sendto(s, "y", 1, 0, &tt.sa, tt.len));
	mask("connected, datagram", t, POLLIN | POLLOUT);
	T(recv(t, &c, 1, 0));
	must(close(s));
	msleep(20);
	must(send(t, "z", 1, 0));
	mask("port unreachable", t, POLLOUT | POLLERR);
	T(recv(t, &c, 1, MSG_DONTWAIT));
	mask("error read", t, POLLOUT);
	must(send(t, "z", 1, 0));
	mask("port unreachable again", t, POLLOUT | POLLERR);
	say("SO_ERROR %s", so_error(t));
	mask("error taken", t, POLLOUT);
	T(shutdown(t, SHUT_RD));
	mask("SHUT_RD", t, POLLIN | POLLOUT | POLLRDHUP);
	T(shutdown(t, SHUT_WR));
	mask("SHUT_RDWR", t, POLLIN | POLLOUT | POLLHUP | POLLRDHUP);
	T(recv(t, &c, 1, 0));
	must(close(t));
	s = must(socket(family, SOCK_DGRAM, 0));
	T(shutdown(s, SHUT_RDWR));
	mask("fresh, shut down", s, POLLIN | POLLOUT | POLLHUP | POLLRDHUP);
	must(close(s));
}

int main(void)
{
	begin();
	run(AF_INET);
	run(AF_INET6);
	return 0;
}

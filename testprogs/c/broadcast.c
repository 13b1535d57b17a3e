/* broadcast: SO_BROADCAST, and where datagrams to broadcast addresses go. */
#include "common.h"

int main(void)
{
	begin();
	int s = must(socket(AF_INET, SOCK_DGRAM, 0));
	struct addr all = ip4("255.255.255.255", 7701), lo = ip4("127.255.255.255", 7701);

	T(sendto(s, "x", 1, 0, &all.sa, all.len) < 0);
	T(sendto(s, "x", 1, 0, &lo.sa, lo.len));
	T(connect(s, &lo.sa, lo.len));
	T(set_int(s, SOL_SOCKET, SO_BROADCAST, 1));
	T(connect(s, &lo.sa, lo.len));
	T(send(s, "x", 1, 0));
	msleep(20);
	s = must(socket(AF_INET, SOCK_DGRAM, 0));
	T(set_int(s, SOL_SOCKET, SO_BROADCAST, 1));
	int u = must(socket(AF_INET, SOCK_DGRAM, 0));
	struct addr any = ip4("0.0.0.0", 7701);
	must(bind(u, &any.sa, any.len));
	T(sendto(s, "lo", 2, 0, &lo.sa, lo.len));
	set_timeo(u, SO_RCVTIMEO, 300);
	char b[16];
	T(recv(u, b, sizeof b, 0));
	say("-- bound to it");
	int v = must(socket(AF_INET, SOCK_DGRAM, 0));
	lo = ip4("127.255.255.255", 7702);
	T(bind(v, &lo.sa, lo.len));
	T(sendto(s, "bound", 5, 0, &lo.sa, lo.len));
	set_timeo(v, SO_RCVTIMEO, 300);
	T(recv(v, b, sizeof b, 0));
	say("-- TCP");
	int t = must(socket(AF_INET, SOCK_STREAM, 0));
	T(connect(t, &lo.sa, lo.len));
	return 0;
}

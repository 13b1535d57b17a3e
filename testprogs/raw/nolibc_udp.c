/* nolibc_udp: datagrams and error numbers by system calls alone, as the kernel gives them. */
#include "nolibc.h"

int main(void)
{
	struct sockaddr_in a = at(7902), from;
	int len = sizeof from, v = 0, n = 4;
	char b[64];

	lifetime();
	long u = fd("socket", SYS(__NR_socket, AF_INET, SOCK_DGRAM, 0)), s = fd("socket", SYS(__NR_socket, AF_INET, SOCK_DGRAM, 0));
	line("bind", SYS(__NR_bind, u, &a, sizeof a));
	line("bind again", SYS(__NR_bind, u, &a, sizeof a));
	line("bind in use", SYS(__NR_bind, s, &a, sizeof a));
	line("sendto", SYS(__NR_sendto, s, "datagram", 8, 0, &a, sizeof a));
	line("recvfrom", SYS(__NR_recvfrom, u, b, sizeof b, 0, &from, &len));
	line("address length", len);
	line("connect", SYS(__NR_connect, u, &from, sizeof from));
	line("send", SYS(__NR_sendto, u, "back", 4, 0, 0, 0));
	line("read", SYS(__NR_read, s, b, sizeof b));
	line("SO_TYPE", SYS(__NR_getsockopt, u, 1, 3, &v, &n));
	line("value", v);
	line("no such option", SYS(__NR_getsockopt, u, 1, 9999, &v, &n));
	line("no such level", SYS(__NR_setsockopt, u, 9999, 1, &v, 4));
	line("bad pointer", SYS(__NR_sendto, u, 8, 4, 0, 0, 0));
	line("bad descriptor", SYS(__NR_sendto, 999, "x", 1, 0, 0, 0));
	line("not a socket", SYS(__NR_listen, 1, 1));
	line("unknown family", SYS(__NR_socket, 99, 1, 0));
	/* the upper half of an int argument is not looked at */
	long w = SYS(__NR_socket, 0x700000002, 0x700000002, 0x700000000);
	line("wide arguments", SYS(__NR_close, w));
	line("wide descriptor", SYS(__NR_sendto, u + 0x500000000, "w", 1, 0, 0, 0));
	line("read", SYS(__NR_read, s, b, sizeof b));
	return 0;
}

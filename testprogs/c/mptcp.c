/* mptcp: IPPROTO_MPTCP, which programs try and fall back from. */
#include "common.h"
#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif

int main(void)
{
	begin();
	int s = F(socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP));
	if (s < 0)
		s = must(socket(AF_INET, SOCK_STREAM, 0));
	struct addr a = ip4("127.0.0.1", 0);
	T(bind(s, &a.sa, a.len));
	T(listen(s, 1));
	int d = dial(s);
	F(accept(s, NULL, NULL));
	T(write(d, "x", 1));
	return 0;
}

/* socket_args: families, types and protocols that socket accepts and refuses, and its flags. */
#include "common.h"

#define MADE(family, type, proto) do {                                         \
	int s_ = socket(family, type, proto);                                  \
	if (s_ < 0) {                                                          \
		say("socket(%s, %s, %s): %s", #family, #type, #proto, ename(errno)); \
	} else {                                                               \
		int fl_ = fcntl(s_, F_GETFL);                                  \
		say("socket(%s, %s, %s): domain %d type %d protocol %d%s%s", #family, #type, #proto, get_int(s_, SOL_SOCKET, SO_DOMAIN), \
		    get_int(s_, SOL_SOCKET, SO_TYPE), get_int(s_, SOL_SOCKET, SO_PROTOCOL), fl_ & O_NONBLOCK ? " O_NONBLOCK" : "", \
		    fcntl(s_, F_GETFD) & FD_CLOEXEC ? " FD_CLOEXEC" : "");     \
		must(close(s_));                                               \
	}                                                                      \
} while (0)

int main(void)
{
	begin();
	MADE(AF_INET, SOCK_STREAM, 0);
	MADE(AF_INET, SOCK_STREAM, IPPROTO_TCP);
	MADE(AF_INET, SOCK_STREAM, IPPROTO_UDP);
	MADE(AF_INET, SOCK_DGRAM, 0);
	MADE(AF_INET, SOCK_DGRAM, IPPROTO_UDP);
	MADE(AF_INET, SOCK_DGRAM, IPPROTO_TCP);
	MADE(AF_INET6, SOCK_STREAM, 0);
	MADE(AF_INET6, SOCK_STREAM, IPPROTO_TCP);
	MADE(AF_INET6, SOCK_DGRAM, IPPROTO_UDP);
	MADE(AF_INET6, SOCK_STREAM, IPPROTO_UDP);
	MADE(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
	MADE(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	MADE(AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	MADE(AF_INET, SOCK_STREAM | 0x10000, 0);
	MADE(AF_INET, SOCK_STREAM | O_ASYNC, 0);
	MADE(AF_INET, 0, 0);
	MADE(AF_INET, SOCK_SEQPACKET, 0);
	MADE(AF_INET, SOCK_RDM, 0);
	MADE(AF_INET, 7, 0);
	MADE(AF_INET, 11, 0);
	MADE(AF_INET, -1, 0);
	MADE(AF_INET6, 11, 0);
	MADE(AF_INET, SOCK_RAW, IPPROTO_ICMP);
	MADE(AF_INET, SOCK_RAW, 0);
	MADE(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6);
	MADE(AF_INET, SOCK_STREAM, -1);
	MADE(AF_INET, SOCK_STREAM, 255);
	MADE(AF_INET, SOCK_STREAM, 1000);
	MADE(AF_INET, SOCK_DGRAM, 200);
	MADE(AF_INET6, SOCK_DGRAM, 1000);
	MADE(0, SOCK_STREAM, 0);
	MADE(-1, SOCK_STREAM, 0);
	MADE(45, SOCK_STREAM, 0);
	MADE(46, SOCK_STREAM, 0);
	MADE(1000, SOCK_STREAM, 0);
	MADE(AF_UNIX, SOCK_STREAM, 0);
	MADE(AF_UNIX, SOCK_STREAM, 5);
	MADE(AF_NETLINK, SOCK_RAW, 0);
	MADE(AF_PACKET, SOCK_RAW, 0);
	return 0;
}

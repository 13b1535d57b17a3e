/* lengths: negative, zero and huge lengths and counts. */
#include "common.h"

int main(void)
{
	int p[2], v = 1;
	/* low, so that adding 2 GiB to it stays within the address space */
	char *b = mmap((void *)0x20000000, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	struct addr a = loop(AF_INET, 7301);
	socklen_t n;

	begin();
	signal(SIGPIPE, SIG_IGN);
	tcp_pair(AF_INET, p);
	int s = must(socket(AF_INET, SOCK_STREAM, 0)), u = udp_on(AF_INET);
	struct addr to = local(u);
	T(bind(s, &a.sa, -1));
	T(bind(s, &a.sa, 0x7fffffff));
	T(connect(s, &a.sa, -1));
	T(connect(s, &a.sa, 1000000));
	T(sendto(u, "x", 1, 0, &to.sa, -1));
	T(sendto(u, "x", 1, 0, &to.sa, 129));
	T(sendto(u, "x", 1, 0, &to.sa, 1));
	T(sendto(u, "x", 1, 0, &to.sa, 0));
	T(sendto(u, "x", 1, 0, &to.sa, 128));
	T(recv(u, b, 64, 0));
	T(setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &v, -1));
	T(setsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &v, 0x7fffffff));
	T(setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &v, -4));
	n = 0x7fffffff;
	T(getsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &v, &n));
	say("length %u", (unsigned)n);
	n = 0x80000000u;
	T(getsockopt(s, SOL_SOCKET, SO_KEEPALIVE, &v, &n));
	n = 0x80000000u;
	T(getsockname(s, &a.sa, &n));
	n = 0x80000000u;
	T(getpeername(p[0], &a.sa, &n));
	T(listen(p[0], 1));
	T(shutdown(p[0], 3));
	T(shutdown(p[0], -1));
	T(send(p[0], b, 0, 0));
	T(recv(p[1], b, (size_t)-1, MSG_DONTWAIT));
	T(read(p[1], b, (size_t)-1));
	T(write(p[0], b, (size_t)-1));
	T(sendto(u, b, (size_t)-1, 0, &to.sa, to.len));
	T(sendto(u, b, 65508, 0, &to.sa, to.len));
	T(sendto(u, b, 1 << 20, 0, &to.sa, to.len));

	say("-- message headers");
	struct iovec iov = {"abc", 3};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_name = &to.sa};
	m.msg_namelen = -1;
	T(sendmsg(u, &m, 0));
	m.msg_namelen = 1000;
	T(sendmsg(u, &m, 0));
	m.msg_namelen = 4;
	T(sendmsg(u, &m, 0));
	m.msg_namelen = to.len;
	m.msg_iovlen = (size_t)-1;
	T(sendmsg(u, &m, 0));
	m.msg_iovlen = 1;
	iov.iov_len = (size_t)-1;
	T(sendmsg(u, &m, 0));
	iov.iov_len = 3;
	m.msg_control = b;
	m.msg_controllen = 1;
	T(sendmsg(u, &m, 0));
	m.msg_controllen = (size_t)-1;
	T(sendmsg(u, &m, 0));
	memset(b, 0, 64);
	m.msg_controllen = 64;
	T(sendmsg(u, &m, 0));
	((struct cmsghdr *)b)->cmsg_len = 1000;
	T(sendmsg(u, &m, 0));
	((struct cmsghdr *)b)->cmsg_len = CMSG_LEN(4);
	((struct cmsghdr *)b)->cmsg_level = SOL_IP;
	((struct cmsghdr *)b)->cmsg_type = 9999;
	T(sendmsg(u, &m, 0));
	m.msg_controllen = 0;
	T(sendmsg(u, &m, 0x10000000));
	T(sendmmsg(u, (struct mmsghdr *)&m, 0, 0));
	return 0;
}

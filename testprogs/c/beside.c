/* beside: AF_UNIX, netlink, pipes and files working natively beside sockets of the stack. */
#include "common.h"
#include <linux/netlink.h>
#include <linux/rtnetlink.h>

static void unix_stream(void)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX, .sun_path = "\0alptrace-test-beside"};
	socklen_t len = offsetof(struct sockaddr_un, sun_path) + 21;
	char b[32];

	say("-- AF_UNIX stream");
	int l = F(socket(AF_UNIX, SOCK_STREAM, 0));
	T(bind(l, (void *)&un, len));
	T(listen(l, 2));
	int c = F(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	T(connect(c, (void *)&un, len));
	int a = F(accept4(l, NULL, NULL, SOCK_NONBLOCK));
	T(recv(a, b, sizeof b, 0));
	T(send(c, "over unix", 9, 0));
	await(a, POLLIN);
	T(recv(a, b, sizeof b, 0));
	struct ucred cr;
	socklen_t n = sizeof cr;
	T(getsockopt(a, SOL_SOCKET, SO_PEERCRED, &cr, &n));
	say("peer is this process: %s", cr.pid == getpid() ? "yes" : "no");
	struct sockaddr_un who;
	n = sizeof who;
	T(getpeername(c, (void *)&who, &n));
	say("name %s", n > 3 ? who.sun_path + 1 : "");
	T(shutdown(c, SHUT_WR));
	T(recv(a, b, sizeof b, 0));
	T(getsockname(a, (void *)&who, &n));
	say("-- AF_UNIX refused");
	int d = must(socket(AF_UNIX, SOCK_STREAM, 0));
	un.sun_path[1] = 'X';
	T(connect(d, (void *)&un, len));
}

static void unix_dgram(void)
{
	int sv[2];
	char b[32];
	struct iovec iov = {b, sizeof b};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};

	say("-- AF_UNIX datagram and seqpacket pairs");
	T(socketpair(AF_UNIX, SOCK_DGRAM, 0, sv));
	T(send(sv[0], "one", 3, 0));
	T(sendmsg(sv[0], &(struct msghdr){.msg_iov = &(struct iovec){"two", 3}, .msg_iovlen = 1}, 0));
	T(recvmsg(sv[1], &m, 0));
	T(recvfrom(sv[1], b, sizeof b, 0, NULL, NULL));
	T(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sv));
	T(send(sv[0], "packet", 6, MSG_EOR));
	T(recvmsg(sv[1], &m, 0));
	T(socketpair(AF_INET, SOCK_STREAM, 0, sv));
	T(socketpair(AF_INET6, SOCK_DGRAM, 0, sv));
	T(socketpair(AF_UNIX, 99, 0, sv));
	T(socketpair(AF_UNIX, SOCK_STREAM, 0, (int *)8));
}

static void netlink(void)
{
	struct {
		struct nlmsghdr h;
		struct ifinfomsg i;
	} req = {.h = {.nlmsg_len = sizeof req, .nlmsg_type = RTM_GETLINK, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP, .nlmsg_seq = 1}};
	static char b[65536];
	struct sockaddr_nl nl = {.nl_family = AF_NETLINK};
	socklen_t n = sizeof nl;

	say("-- netlink");
	int s = F(socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE));
	T(bind(s, (void *)&nl, sizeof nl));
	T(getsockname(s, (void *)&nl, &n));
	say("family %d length %u", nl.nl_family, (unsigned)n);
	T(send(s, &req, sizeof req, 0) == sizeof req);
	ssize_t r = recv(s, b, sizeof b, 0);
	struct nlmsghdr *h = (void *)b;
	say("answer is RTM_NEWLINK: %s", r > 0 && h->nlmsg_type == RTM_NEWLINK ? "yes" : "no");
}

static void all_in_one_epoll(void)
{
	int p[2], sv[2], pp[2], ep = must(epoll_create1(0)), seen = 0;

	say("-- all of them in one epoll");
	tcp_pair(AF_INET, p);
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	must(pipe(pp));
	int fds[] = {p[1], sv[1], pp[0]};
	for (int i = 0; i < 3; i++) {
		struct epoll_event ev = {.events = EPOLLIN, .data.u32 = 1u << i};
		must(epoll_ctl(ep, EPOLL_CTL_ADD, fds[i], &ev));
	}
	must(write(p[0], "t", 1));
	must(write(sv[0], "u", 1));
	must(write(pp[1], "p", 1));
	await(p[1], POLLIN);
	struct epoll_event got[8];
	int n = T(epoll_wait(ep, got, 8, 1000));
	for (int i = 0; i < n; i++)
		seen |= got[i].data.u32;
	say("seen %d", seen);
}

int main(void)
{
	begin();
	int keep = udp_on(AF_INET), l = listener(AF_INET6, 1);
	unix_stream();
	unix_dgram();
	netlink();
	all_in_one_epoll();
	say("-- files");
	int f = must(memfd_create("f", 0)), p[2];
	T(write(f, "file", 4));
	T(lseek(f, 0, SEEK_SET));
	tcp_pair(AF_INET, p);
	T(sendfile(p[0], f, NULL, 4));
	say("read: %s", read_text(p[1], 4));
	struct stat st;
	T(fstat(p[0], &st));
	say("a socket by its mode: %s", S_ISSOCK(st.st_mode) ? "yes" : "no");
	T(S_ISSOCK((must(fstat(keep, &st)), st.st_mode)));
	T(S_ISSOCK((must(fstat(l, &st)), st.st_mode)));
	T(fsync(p[0]));
	T(ftruncate(p[0], 0));
	T(fchmod(f, 0600));
	return 0;
}

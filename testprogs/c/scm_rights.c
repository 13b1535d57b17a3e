/* scm_rights: a connection, a listener and a UDP socket passed over AF_UNIX. */
#include "common.h"

static void pass(int via, int *fds, int n)
{
	char ctl[CMSG_SPACE(sizeof(int) * 8)] = {0}, byte = 'f';
	struct iovec iov = {&byte, 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = ctl,
			   .msg_controllen = CMSG_SPACE(sizeof(int) * n)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int) * n);
	memcpy(CMSG_DATA(c), fds, sizeof(int) * n);
	must(sendmsg(via, &m, 0));
}

static int take(int via, int *fds)
{
	char ctl[CMSG_SPACE(sizeof(int) * 8)], byte;
	struct iovec iov = {&byte, 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = ctl, .msg_controllen = sizeof ctl};

	must(recvmsg(via, &m, 0));
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	if (!c)
		return 0;
	int n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
	memcpy(fds, CMSG_DATA(c), n * sizeof(int));
	return n;
}

static void receiver(int via)
{
	int fds[8];
	stream = "receiver";
	struct addr from = {.len = sizeof from.ss};

	say("%d descriptors", take(via, fds));
	say("connection peer %s", peername(fds[0]));
	say("read %s", read_text(fds[0], 5));
	write_all(fds[0], "reply", 5);
	must(close(fds[0]));
	int fd = must(accept(fds[1], &from.sa, &from.len));
	say("accepted from %s", aname(&from));
	write_all(fd, "accepted", 8);
	must(close(fd));
	char b[16];
	from.len = sizeof from.ss;
	ssize_t n = recvfrom(fds[2], b, sizeof b, 0, &from.sa, &from.len);
	say("datagram of %zd from %s", n, aname(&from));
	must(sendto(fds[2], b, n, 0, &from.sa, from.len));
	say("%d more", take(via, fds));
	write_all(fds[0], "late", 4);
	_exit(0);
}

int main(void)
{
	int sv[2], p[2], q[2], fds[8];
	char c, b[16];

	begin();
	must(socketpair(AF_UNIX, SOCK_STREAM, 0, sv));
	pid_t pid = xfork();
	if (pid == 0) {
		must(close(sv[0]));
		receiver(sv[1]);
	}
	must(close(sv[1]));
	tcp_pair(AF_INET, p);
	tcp_pair(AF_INET6, q);
	int l = listener(AF_INET6, 3), u = udp_on(AF_INET);
	struct addr to = local(l), uto = local(u);
	pass(sv[0], (int[]){p[1], l, u}, 3);
	T(close(p[1]));
	T(close(l));
	T(close(u));
	T(write(p[0], "hello", 5));
	say("connection: %s", read_text(p[0], 5));
	T(read(p[0], &c, 1));
	int fd = must(socket(AF_INET6, SOCK_STREAM, 0));
	T(connect(fd, &to.sa, to.len));
	say("listener: %s", read_text(fd, 8));
	int cu = must(socket(AF_INET, SOCK_DGRAM, 0));
	T(sendto(cu, "data", 4, 0, &uto.sa, uto.len));
	T(recv(cu, b, sizeof b, 0));

	say("-- in flight after the sender's close");
	pass(sv[0], &q[1], 1);
	T(close(q[1]));
	say("read: %s", read_text(q[0], 4));
	T(read(q[0], &c, 1));
	say("receiver: %s", join(pid));

	say("-- within one process");
	must(socketpair(AF_UNIX, SOCK_DGRAM, 0, sv));
	tcp_pair(AF_INET, p);
	pass(sv[0], &p[1], 1);
	say("received %d", take(sv[1], fds));
	T(close(p[1]));
	T(write(fds[0], "same", 4));
	say("read: %s", read_text(p[0], 4));
	T(close(fds[0]));
	T(read(p[0], &c, 1));

	say("-- in flight and never received");
	tcp_pair(AF_INET, p);
	pass(sv[0], &p[1], 1);
	T(close(p[1]));
	T(recv(p[0], &c, 1, MSG_DONTWAIT));
	T(close(sv[1]));
	T(close(sv[0]));
	T(read(p[0], &c, 1));
	return 0;
}

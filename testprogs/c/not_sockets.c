/* not_sockets: socket calls on files, pipes and closed descriptors. */
#include "common.h"

static void every(const char *label, int fd)
{
	struct addr a = loop(AF_INET, 7302);
	socklen_t n = sizeof a.ss;
	int v = 0;
	struct iovec iov = {&v, 1};
	struct msghdr m = {.msg_iov = &iov, .msg_iovlen = 1};
	struct mmsghdr mm = {.msg_hdr = m};

	say("-- %s", label);
	T(bind(fd, &a.sa, a.len));
	T(connect(fd, &a.sa, a.len));
	T(listen(fd, 1));
	T(accept(fd, NULL, NULL));
	T(accept(fd, &a.sa, &n));
	T(accept4(fd, NULL, NULL, 0));
	T(accept4(fd, NULL, NULL, 1));
	T(getsockname(fd, &a.sa, &n));
	T(getpeername(fd, &a.sa, &n));
	T(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &v, sizeof v));
	T(getsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &v, &n));
	T(shutdown(fd, SHUT_WR));
	T(send(fd, "x", 1, 0));
	T(recv(fd, &v, 1, 0));
	T(sendto(fd, "x", 1, 0, &a.sa, a.len));
	T(recvfrom(fd, &v, 1, 0, &a.sa, &n));
	T(sendmsg(fd, &m, 0));
	T(recvmsg(fd, &m, 0));
	T(sendmmsg(fd, &mm, 1, 0));
	T(recvmmsg(fd, &mm, 1, 0, NULL));
	T(bind(fd, NULL, 0));
	T(sendmsg(fd, NULL, 0));
	T(ioctl(fd, 0x8905 /* SIOCATMARK */, &v));
	T(ioctl(fd, 0x8912 /* SIOCGIFCONF */, &v));
}

int main(void)
{
	int pp[2];

	begin();
	must(pipe(pp));
	every("pipe", pp[0]);
	every("file", must(open("/dev/null", O_RDWR)));
	every("epoll", must(epoll_create1(0)));
	every("memfd", must(memfd_create("m", 0)));
	every("directory", must(open("/", O_RDONLY | O_DIRECTORY)));
	every("O_PATH", must(open("/dev/null", O_PATH)));
	every("-1", -1);
	every("never opened", 900);
	every("INT_MAX", 0x7fffffff);
	int s = must(socket(AF_INET, SOCK_STREAM, 0));
	must(close(s));
	every("a closed socket", s);
	int t = must(socket(AF_INET, SOCK_STREAM, 0));
	must(dup2(pp[1], t));
	every("a socket replaced by a pipe", t);
	return 0;
}

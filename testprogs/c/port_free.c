/* port_free: a port is free again as soon as its last holder closes or ends. */
#include "common.h"

static struct addr a;

static int bound(int family, int type)
{
	int s = must(socket(family, type, 0));
	int r = bind(s, &a.sa, a.len);

	if (r < 0) {
		int e = errno;
		close(s);
		errno = e;
		return -1;
	}
	return s;
}

static void again(const char *label, int family, int type)
{
	int s = bound(family, type);

	say("%s: %s", label, s >= 0 ? "free" : ename(errno));
	if (s >= 0)
		must(close(s));
}

/* soon is again, for closes that need a moment even in the kernel. */
static void soon(const char *label, int family, int type)
{
	int s = -1;

	for (int i = 0; i < 100 && s < 0; i++) {
		s = bound(family, type);
		if (s < 0)
			msleep(5);
	}
	say("%s: %s", label, s >= 0 ? "free" : ename(errno));
	if (s >= 0)
		must(close(s));
}

static void run(int family, int type)
{
	char label[64];

	snprintf(label, sizeof label, "%s %s", family == AF_INET ? "IPv4" : "IPv6", type == SOCK_STREAM ? "TCP" : "UDP");
	say("-- %s", label);
	a = loop(family, 7201);
	int s = must(bound(family, type));
	again("bound", family, type);
	must(close(s));
	again("closed", family, type);

	s = must(bound(family, type));
	int c = must(dup(s));
	must(close(s));
	again("a copy left", family, type);
	must(close(c));
	again("the copy closed", family, type);

	s = must(bound(family, type));
	struct gate g = gate();
	pid_t pid = xfork();
	if (pid == 0) {
		gate_wait(&g);
		_exit(0);
	}
	must(close(s));
	again("a child holds it", family, type);
	gate_open(&g);
	join(pid);
	again("the child ended", family, type);

	s = must(bound(family, type));
	pid = xfork();
	if (pid == 0) {
		pause();
		_exit(0);
	}
	must(close(s));
	must(kill(pid, SIGKILL));
	join(pid);
	again("the child was killed", family, type);

	pid = xfork();
	if (pid == 0) {
		must(bound(family, type));
		execl("/proc/self/exe", "port_free", "nothing", NULL);
		_exit(9);
	}
	say("exec: %s", join(pid));
	again("it had executed another program", family, type);

	s = must(bound(family, type));
	must(fcntl(s, F_SETFD, FD_CLOEXEC));
	struct gate h = gate();
	must(fcntl(h.p[1], F_SETFD, 0));
	pid = xfork();
	if (pid == 0) {
		char n[16];
		snprintf(n, sizeof n, "%d", h.p[1]);
		execl("/proc/self/exe", "port_free", "wait", n, NULL);
		_exit(9);
	}
	must(close(s));
	must(close(h.p[1]));
	gate_wait(&h);
	again("FD_CLOEXEC, closed by the child's exec", family, type);
	must(kill(pid, SIGKILL));
	join(pid);

	if (type == SOCK_STREAM) {
		s = must(bound(family, type));
		must(listen(s, 3));
		must(close(s));
		again("a listener closed", family, type);
		s = must(bound(family, type));
		must(listen(s, 3));
		must(shutdown(s, SHUT_RDWR));
		again("a listener shut down", family, type);
		must(close(s));
		again("and closed", family, type);
	}
	for (int i = 0; i < 200; i++) {
		s = bound(family, type);
		if (s < 0) {
			say("round %d: %s", i, ename(errno));
			break;
		}
		if (type == SOCK_STREAM)
			must(listen(s, 1));
		must(close(s));
	}
	soon("200 times", family, type);

	s = must(bound(family, type));
	int t = must(socket(family, type, 0));
	must(dup2(t, s));
	again("replaced by dup2", family, type);
	int sv[2];
	must(socketpair(AF_UNIX, SOCK_DGRAM, 0, sv));
	s = must(bound(family, type));
	must(close_range(s, s, 0));
	again("close_range", family, type);
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "nothing") == 0)
		return 4;
	if (argc > 2 && strcmp(argv[1], "wait") == 0) {
		arm();
		must(write(atoi(argv[2]), "g", 1));
		pause();
	}
	begin();
	run(AF_INET, SOCK_STREAM);
	run(AF_INET6, SOCK_STREAM);
	run(AF_INET, SOCK_DGRAM);
	run(AF_INET6, SOCK_DGRAM);
	return 0;
}

/*
 * common.h: what the test programs share.
 *
 * A program prints a transcript: lines that depend on what the socket layer
 * answers and on nothing else. No time, pid, ephemeral port or descriptor
 * number is printed, and a line is printed only after what it reports has
 * settled, so that a slower stack prints the same lines.
 */
#ifndef COMMON_H
#define COMMON_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/select.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define UNUSED __attribute__((unused))
#define LIFETIME 24 /* seconds until a process that hangs is ended */
#define PATIENCE 9  /* seconds until its blocking calls begin to answer EINTR */

/*
 * A thread or process that runs beside others names its stream: its lines start
 * with "NAME| ", and only the order within a stream is part of the transcript.
 */
UNUSED static __thread const char *stream;

/* say prints one line with one write, so that processes do not mix lines. */
UNUSED __attribute__((format(printf, 1, 2))) static void say(const char *fmt, ...)
{
	char line[4096];
	int saved = errno;
	va_list ap;

	int n = stream ? snprintf(line, 64, "%s| ", stream) : 0;
	va_start(ap, fmt);
	n += vsnprintf(line + n, sizeof line - 1 - n, fmt, ap);
	va_end(ap);
	if (n > (int)sizeof line - 2)
		n = sizeof line - 2;
	line[n++] = '\n';
	if (write(STDOUT_FILENO, line, n) < 0)
		_exit(99);
	errno = saved;
}

/* scratch gives one of a few line buffers, for functions that return text. */
UNUSED static char *scratch(void)
{
	static __thread char bufs[16][512];
	static __thread unsigned next;

	return bufs[next++ % 16];
}

UNUSED static const char *ename(int err)
{
	const char *s = strerrorname_np(err);
	return s ? s : "?";
}

/* outcome names a result: "3", or "-1 EINVAL". */
UNUSED static const char *outcome(long r, int err)
{
	char *s = scratch();

	if (r == -1)
		snprintf(s, 512, "-1 %s", ename(err));
	else
		snprintf(s, 512, "%ld", r);
	return s;
}

/* T evaluates a call, prints it as written with its result, and gives the result. */
#define T(expr) ({                                               \
	errno = 0;                                               \
	long r_ = (long)(expr);                                  \
	int e_ = errno;                                          \
	say("%s: %s", #expr, outcome(r_, e_));                   \
	errno = e_;                                              \
	r_;                                                      \
})

/* L is T with a label in place of the call's text. */
#define L(label, expr) ({                                        \
	errno = 0;                                               \
	long r_ = (long)(expr);                                  \
	int e_ = errno;                                          \
	say("%s: %s", label, outcome(r_, e_));                   \
	errno = e_;                                              \
	r_;                                                      \
})

/* F is T for calls that give a descriptor: its number is not printed. */
#define F(expr) ({                                               \
	errno = 0;                                               \
	long r_ = (long)(expr);                                  \
	int e_ = errno;                                          \
	say("%s: %s", #expr, r_ >= 0 ? "ok" : outcome(r_, e_));  \
	errno = e_;                                              \
	(int)r_;                                                 \
})

/* FL is F with a label. */
#define FL(label, expr) ({                                       \
	errno = 0;                                               \
	long r_ = (long)(expr);                                  \
	int e_ = errno;                                          \
	say("%s: %s", label, r_ >= 0 ? "ok" : outcome(r_, e_));  \
	errno = e_;                                              \
	(int)r_;                                                 \
})

/* must evaluates a call that only prepares the test: failing ends the program. */
#define must(expr) ({                                            \
	errno = 0;                                               \
	long r_ = (long)(expr);                                  \
	if (r_ < 0) {                                            \
		say("line %d: %s: %s", __LINE__, #expr, ename(errno)); \
		_exit(98);                                       \
	}                                                        \
	(int)r_;                                                 \
})

UNUSED static void on_alarm(int sig)
{
	static volatile sig_atomic_t rings;

	(void)sig;
	if (++rings > LIFETIME - PATIENCE)
		_exit(96);
}

/*
 * arm interrupts what blocks for too long, once a second, so that one call that
 * never returns costs one line of the transcript and not the rest of it.
 */
UNUSED static void arm(void)
{
	struct sigaction sa = {.sa_handler = on_alarm};
	struct itimerval it = {{1, 0}, {PATIENCE, 0}};

	sigaction(SIGALRM, &sa, NULL);
	setitimer(ITIMER_REAL, &it, NULL);
}

UNUSED static void begin(void)
{
	setvbuf(stdout, NULL, _IONBF, 0);
	arm();
}

UNUSED static void msleep(int ms)
{
	struct timespec t = {ms / 1000, (ms % 1000) * 1000000L};

	while (nanosleep(&t, &t) < 0 && errno == EINTR)
		;
}

UNUSED static long long now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000LL + t.tv_nsec / 1000000;
}

/* ---- addresses ---- */

struct addr {
	union {
		struct sockaddr sa;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
		struct sockaddr_storage ss;
	};
	socklen_t len;
};

UNUSED static struct addr ip4(const char *ip, int port)
{
	struct addr a = {.len = sizeof a.v4};

	a.v4.sin_family = AF_INET;
	a.v4.sin_port = htons(port);
	inet_pton(AF_INET, ip, &a.v4.sin_addr);
	return a;
}

UNUSED static struct addr ip6(const char *ip, int port)
{
	struct addr a = {.len = sizeof a.v6};

	a.v6.sin6_family = AF_INET6;
	a.v6.sin6_port = htons(port);
	inet_pton(AF_INET6, ip, &a.v6.sin6_addr);
	return a;
}

/* loop is the loopback address of a family. */
UNUSED static struct addr loop(int family, int port)
{
	return family == AF_INET ? ip4("127.0.0.1", port) : ip6("::1", port);
}

/* portname hides ephemeral ports; the programs' own are all below 16000. */
UNUSED static const char *portname(int port)
{
	char *s = scratch();

	if (port >= 16000)
		return "eph";
	snprintf(s, 512, "%d", port);
	return s;
}

UNUSED static const char *aname(const struct addr *a)
{
	char *s = scratch(), ip[64];

	if (a->len < sizeof(sa_family_t))
		snprintf(s, 512, "none");
	else if (a->sa.sa_family == AF_INET && a->len >= sizeof a->v4)
		snprintf(s, 512, "%s:%s", inet_ntop(AF_INET, &a->v4.sin_addr, ip, sizeof ip),
			 portname(ntohs(a->v4.sin_port)));
	else if (a->sa.sa_family == AF_INET6 && a->len >= 24)
		snprintf(s, 512, "[%s]:%s", inet_ntop(AF_INET6, &a->v6.sin6_addr, ip, sizeof ip),
			 portname(ntohs(a->v6.sin6_port)));
	else
		snprintf(s, 512, "family %d length %u", a->sa.sa_family, (unsigned)a->len);
	return s;
}

/* localname and peername are getsockname and getpeername as text. */
UNUSED static const char *localname(int fd)
{
	struct addr a = {.len = sizeof a.ss};

	if (getsockname(fd, &a.sa, &a.len) < 0)
		return outcome(-1, errno);
	return aname(&a);
}

UNUSED static const char *peername(int fd)
{
	struct addr a = {.len = sizeof a.ss};

	if (getpeername(fd, &a.sa, &a.len) < 0)
		return outcome(-1, errno);
	return aname(&a);
}

UNUSED static struct addr local(int fd)
{
	struct addr a = {.len = sizeof a.ss};

	must(getsockname(fd, &a.sa, &a.len));
	return a;
}

/* ---- sockets ---- */

/* listener gives a TCP listener on an ephemeral port of the loopback. */
UNUSED static int listener(int family, int backlog)
{
	struct addr a = loop(family, 0);
	int fd = must(socket(family, SOCK_STREAM, 0)), on = 1;

	must(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on));
	must(bind(fd, &a.sa, a.len));
	must(listen(fd, backlog));
	return fd;
}

/* dial gives a connected socket to where fd is bound. */
UNUSED static int dial(int listening)
{
	struct addr a = local(listening);
	int fd = must(socket(a.sa.sa_family, SOCK_STREAM, 0));

	must(connect(fd, &a.sa, a.len));
	return fd;
}

/* tcp_pair makes a connection: p[0] dialled, p[1] accepted. */
UNUSED static void tcp_pair(int family, int p[2])
{
	int l = listener(family, 4);

	p[0] = dial(l);
	p[1] = must(accept(l, NULL, NULL));
	must(close(l));
}

/* udp_on gives a UDP socket bound to an ephemeral port of the loopback. */
UNUSED static int udp_on(int family)
{
	struct addr a = loop(family, 0);
	int fd = must(socket(family, SOCK_DGRAM, 0));

	must(bind(fd, &a.sa, a.len));
	return fd;
}

UNUSED static void nonblock(int fd, int on)
{
	int fl = must(fcntl(fd, F_GETFL));

	must(fcntl(fd, F_SETFL, on ? fl | O_NONBLOCK : fl & ~O_NONBLOCK));
}

UNUSED static void set_timeo(int fd, int name, int ms)
{
	struct timeval tv = {ms / 1000, (ms % 1000) * 1000};

	must(setsockopt(fd, SOL_SOCKET, name, &tv, sizeof tv));
}

UNUSED static int set_int(int fd, int level, int name, int value)
{
	return setsockopt(fd, level, name, &value, sizeof value);
}

UNUSED static int get_int(int fd, int level, int name)
{
	int v = -2;
	socklen_t n = sizeof v;

	if (getsockopt(fd, level, name, &v, &n) < 0)
		return -1;
	return v;
}

UNUSED static const char *so_error(int fd)
{
	int e = get_int(fd, SOL_SOCKET, SO_ERROR);

	return e == 0 ? "0" : e < 0 ? "getsockopt failed" : ename(e);
}

/*
 * settle waits a moment for an error that a send has left behind, where the
 * send itself did not report it, and takes it: 0 if there is none.
 */
UNUSED static int settle(int fd)
{
	struct pollfd p = {fd, 0, 0};

	return poll(&p, 1, 50) > 0 ? get_int(fd, SOL_SOCKET, SO_ERROR) : 0;
}

/* write_all writes n bytes or ends the program. */
UNUSED static void write_all(int fd, const void *p, size_t n)
{
	const char *c = p;

	while (n > 0) {
		ssize_t r = write(fd, c, n);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0) {
			say("write: %s", ename(errno));
			_exit(98);
		}
		c += r;
		n -= r;
	}
}

/* read_all reads until n bytes, end of file or error; gives the number read. */
UNUSED static ssize_t read_all(int fd, void *p, size_t n)
{
	size_t got = 0;

	while (got < n) {
		ssize_t r = read(fd, (char *)p + got, n - got);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return got ? (ssize_t)got : -1;
		if (r == 0)
			break;
		got += r;
	}
	return got;
}

/* read_text reads exactly n bytes (fewer at end of file) as text. */
UNUSED static const char *read_text(int fd, size_t n)
{
	char *s = scratch();
	ssize_t r = read_all(fd, s, n < 500 ? n : 500);

	if (r < 0)
		return outcome(-1, errno);
	s[r] = 0;
	return r ? s : "(end)";
}

/* ---- poll masks ---- */

UNUSED static const char *mname(int m)
{
	static const struct {
		int bit;
		const char *name;
	} bits[] = {{POLLIN, "IN"}, {POLLPRI, "PRI"}, {POLLOUT, "OUT"}, {POLLERR, "ERR"},
		    {POLLHUP, "HUP"}, {POLLNVAL, "NVAL"}, {POLLRDHUP, "RDHUP"}};
	char *s = scratch();

	s[0] = 0;
	for (unsigned i = 0; i < sizeof bits / sizeof *bits; i++)
		if (m & bits[i].bit)
			snprintf(s + strlen(s), 512 - strlen(s), "%s%s", s[0] ? " " : "", bits[i].name);
	return s[0] ? s : "0";
}

UNUSED static int mask_now(int fd)
{
	struct pollfd p = {fd, POLLIN | POLLPRI | POLLOUT | POLLRDHUP, 0};

	return poll(&p, 1, 0) < 0 ? -1 : p.revents;
}

/*
 * mask waits up to two seconds for the poll mask of fd to be want (what Linux
 * shows), lets it settle, and prints what it is.
 */
UNUSED static void mask(const char *label, int fd, int want)
{
	long long end = now_ms() + 2000;
	int m;

	while ((m = mask_now(fd)) != want && now_ms() < end)
		msleep(2);
	msleep(5);
	say("%s: %s", label, mname(mask_now(fd)));
}

/* await waits up to two seconds for one of the events. */
UNUSED static int await(int fd, int events)
{
	struct pollfd p = {fd, events, 0};

	return poll(&p, 1, 2000) > 0 ? p.revents : 0;
}

/* ---- processes ---- */

UNUSED static pid_t xfork(void)
{
	pid_t pid = must(fork());

	if (pid == 0)
		arm();
	return pid;
}

UNUSED static const char *status_name(int st)
{
	char *s = scratch();

	if (WIFEXITED(st))
		snprintf(s, 512, "exit %d", WEXITSTATUS(st));
	else if (WIFSIGNALED(st))
		snprintf(s, 512, "SIG%s", sigabbrev_np(WTERMSIG(st)));
	else
		snprintf(s, 512, "status %#x", st);
	return s;
}

/* join waits for a child and gives how it ended. */
UNUSED static const char *join(pid_t pid)
{
	int st = 0;

	while (waitpid(pid, &st, 0) < 0)
		if (errno != EINTR)
			return outcome(-1, errno);
	return status_name(st);
}

/* A gate lets one process or thread wait for another. */
struct gate {
	int p[2];
};

UNUSED static struct gate gate(void)
{
	struct gate g;

	must(pipe2(g.p, O_CLOEXEC));
	return g;
}

UNUSED static void gate_open(struct gate *g)
{
	write_all(g->p[1], "g", 1);
}

UNUSED static void gate_wait(struct gate *g)
{
	char c;

	if (read_all(g->p[0], &c, 1) != 1) {
		say("gate: closed");
		_exit(97);
	}
}

UNUSED static pthread_t spawn(void *(*fn)(void *), void *arg)
{
	pthread_t t;

	if (pthread_create(&t, NULL, fn, arg) != 0) {
		say("pthread_create failed");
		_exit(98);
	}
	return t;
}

/* handle installs a signal handler, with SA_RESTART or without. */
UNUSED static void handle(int sig, void (*fn)(int), int flags)
{
	struct sigaction sa = {.sa_handler = fn, .sa_flags = flags};

	must(sigaction(sig, &sa, NULL));
}

/* checksum is FNV-1a. */
UNUSED static uint64_t checksum(uint64_t h, const void *p, size_t n)
{
	const unsigned char *c = p;

	if (h == 0)
		h = 14695981039346656037ULL;
	while (n--)
		h = (h ^ *c++) * 1099511628211ULL;
	return h;
}

/* pattern fills a buffer with bytes that depend on their place in the stream. */
UNUSED static void pattern(void *p, size_t n, uint64_t at)
{
	unsigned char *c = p;

	for (size_t i = 0; i < n; i++) {
		uint64_t x = at + i;
		c[i] = (unsigned char)(x ^ (x >> 8) * 7 ^ (x >> 16) * 31);
	}
}

#endif

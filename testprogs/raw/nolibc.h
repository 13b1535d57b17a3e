/*
 * nolibc.h: system calls and a little text, for programs without a libc.
 * Such programs show that nothing depends on symbols, on the loader or on
 * glibc's way of calling.
 */
#ifndef NOLIBC_H
#define NOLIBC_H
#include <linux/in.h>
#include <linux/net.h>
#include <linux/sched.h>
#include <asm/signal.h>
#include <linux/wait.h>
#include <stddef.h>
#include <stdint.h>
#include <asm/unistd.h>

#define AF_INET 2
#define SOCK_STREAM 1
#define SOCK_DGRAM 2

#if defined(__x86_64__)
static long call6(long n, long a, long b, long c, long d, long e, long f)
{
	long r;
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;

	__asm__ volatile("syscall" : "=a"(r) : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
	return r;
}
#define START "xor %ebp, %ebp\n mov %rsp, %rdi\n and $-16, %rsp\n call entry\n"
#elif defined(__i386__)
static long call6(long n, long a, long b, long c, long d, long e, long f)
{
	long r, x[2] = {n, f};

	__asm__ volatile("push %%ebp\n mov 4(%%eax), %%ebp\n mov (%%eax), %%eax\n int $0x80\n pop %%ebp"
			 : "=a"(r) : "0"(x), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e) : "memory", "cc");
	return r;
}
#define START "xor %ebp, %ebp\n and $-16, %esp\n call entry\n"
#elif defined(__aarch64__)
static long call6(long n, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = n;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;
}
#define START "mov x29, 0\n mov x0, sp\n and sp, x0, -16\n bl entry\n"
#else
#error "nolibc.h: no system calls for this architecture"
#endif

#define SYS(n, ...) SYS_(n, ##__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define SYS_(n, a, b, c, d, e, f, ...) call6(n, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

__asm__(".globl _start\n_start:\n" START);

int main(void);
void entry(void);
void entry(void)
{
	SYS(__NR_exit_group, main());
	__builtin_unreachable();
}

void *memset(void *p, int c, size_t n);
void *memset(void *p, int c, size_t n)
{
	volatile char *b = p;

	while (n--)
		*b++ = (char)c;
	return p;
}

void *memcpy(void *d, const void *s, size_t n);
void *memcpy(void *d, const void *s, size_t n)
{
	volatile char *x = d;
	const char *y = s;

	while (n--)
		*x++ = *y++;
	return d;
}

static size_t length(const char *s)
{
	size_t n = 0;

	while (s[n])
		n++;
	return n;
}

/* line prints "text: number" with one write; number is a call's raw result. */
__attribute__((unused)) static void line(const char *text, long v)
{
	char b[160], d[24];
	size_t n = length(text), k = 0;
	unsigned long u = v < 0 ? -(unsigned long)v : (unsigned long)v;

	memcpy(b, text, n);
	b[n++] = ':';
	b[n++] = ' ';
	if (v < 0)
		b[n++] = '-';
	do
		d[k++] = '0' + u % 10;
	while (u /= 10);
	while (k)
		b[n++] = d[--k];
	b[n++] = '\n';
	SYS(__NR_write, 1, b, n);
}

/* fd is line for a call that gives a descriptor. */
__attribute__((unused)) static long fd(const char *text, long v)
{
	line(text, v >= 0 ? 0 : v);
	return v;
}

__attribute__((unused)) static struct sockaddr_in at(uint16_t port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = __builtin_bswap16(port)};

	a.sin_addr.s_addr = __builtin_bswap32(0x7f000001);
	return a;
}

__attribute__((unused)) static long fork_(void)
{
	return SYS(__NR_clone, SIGCHLD);
}

/* lifetime ends a program that hangs. */
__attribute__((unused)) static void lifetime(void)
{
	struct { long isec, iusec, sec, usec; } it = {0, 0, 25, 0};

	SYS(__NR_setitimer, 0, &it, 0);
}
#endif

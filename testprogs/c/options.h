/* options.h: reads an option's default, sets it to many values, and reads it back. */
#ifndef OPTIONS_H
#define OPTIONS_H
#include "common.h"

struct option {
	int level, name;
	const char *label;
};

#define OPT(level, name) {level, name, #name}

/* value is what getsockopt gives for a buffer of size bytes, as text. */
UNUSED static const char *value(int fd, const struct option *o, unsigned size)
{
	unsigned char b[64];
	char *s = scratch();
	socklen_t n = size;
	int v = 0;

	memset(b, 0, sizeof b);
	if (getsockopt(fd, o->level, o->name, b, &n) < 0)
		return outcome(-1, errno);
	memcpy(&v, b, 4);
	if (n == 4)
		snprintf(s, 512, "%d", v);
	else if (n == 1)
		snprintf(s, 512, "%d of 1 byte", b[0]);
	else
		snprintf(s, 512, "%d of %u bytes", v, (unsigned)n);
	return s;
}

/* option_values sets every value and reads it back. */
UNUSED static void option_values(int fd, const struct option *o, const int *v, int n)
{
	for (int i = 0; i < n; i++) {
		int r = setsockopt(fd, o->level, o->name, &v[i], sizeof v[i]);
		const char *res = outcome(r, errno);
		say("%s = %d: %s, then %s", o->label, v[i], res, value(fd, o, 4));
	}
}

/* option_sizes sets and reads with lengths that are not an int's. */
UNUSED static void option_sizes(int fd, const struct option *o)
{
	static const int sizes[] = {0, 1, 2, 3, 8, 16};
	unsigned char b[64] = {1};

	for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++) {
		int r = setsockopt(fd, o->level, o->name, b, sizes[i]);
		const char *res = outcome(r, errno);
		say("%s, %d bytes: set %s, get %s", o->label, sizes[i], res, value(fd, o, sizes[i]));
	}
	int r = setsockopt(fd, o->level, o->name, b, -1);
	say("%s, -1 bytes: set %s", o->label, outcome(r, errno));
	socklen_t n = -1;
	r = getsockopt(fd, o->level, o->name, b, &n);
	say("%s, -1 bytes: get %s", o->label, outcome(r, errno));
	r = setsockopt(fd, o->level, o->name, NULL, 4);
	say("%s, no value: set %s", o->label, outcome(r, errno));
	n = 4;
	r = getsockopt(fd, o->level, o->name, NULL, &n);
	say("%s, no value: get %s", o->label, outcome(r, errno));
}

UNUSED static void option_defaults(int fd, const struct option *o, int n)
{
	for (int i = 0; i < n; i++)
		say("%s by default: %s", o[i].label, value(fd, &o[i], 4));
}

#define COUNT(a) ((int)(sizeof(a) / sizeof *(a)))

static const struct {
	const char *label;
	int family, type;
} option_sockets[] UNUSED = {
	{"TCP over IPv4", AF_INET, SOCK_STREAM},
	{"TCP over IPv6", AF_INET6, SOCK_STREAM},
	{"UDP over IPv4", AF_INET, SOCK_DGRAM},
	{"UDP over IPv6", AF_INET6, SOCK_DGRAM},
};
#endif

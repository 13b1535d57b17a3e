/* clone_files: descriptor tables that are shared (CLONE_FILES), and that stop being so. */
#include "common.h"

static int pipefd[2], made, step;
static char stack1[65536] __attribute__((aligned(16)));

static int shared_child(void *arg)
{
	int *p = arg;

	/* shares memory and descriptors: what it opens and closes is the parent's */
	made = socket(AF_INET, SOCK_STREAM, 0);
	close(p[1]);
	step = 1;
	return 0;
}

static int unshared_child(void *arg)
{
	int *p = arg;

	close(p[1]);
	made = socket(AF_INET, SOCK_STREAM, 0);
	step = 2;
	return 0;
}

static int unsharing_child(void *arg)
{
	int *p = arg;

	if (unshare(CLONE_FILES) < 0)
		return 9;
	close(p[1]);
	made = socket(AF_INET6, SOCK_DGRAM, 0);
	step = 3;
	return 0;
}

static const char *run(int (*fn)(void *), int flags, int *p)
{
	pid_t pid = must(clone(fn, stack1 + sizeof stack1, flags | SIGCHLD, p));

	return join(pid);
}

static void report(int (*fn)(void *), int flags, int *p)
{
	const char *end = run(fn, flags, p);

	say("child: %s, step %d", end, step);
}

int main(void)
{
	int p[2];
	char c;

	begin();
	must(pipe(pipefd));
	say("-- shared");
	tcp_pair(AF_INET, p);
	report(shared_child, CLONE_VM | CLONE_FILES, p);
	T(write(p[1], "x", 1));
	T(read(p[0], &c, 1));
	say("the child's socket: %s", localname(made));
	T(close(made));
	T(close(p[0]));

	say("-- not shared");
	tcp_pair(AF_INET, p);
	report(unshared_child, CLONE_VM, p);
	T(write(p[1], "x", 1));
	T(read(p[0], &c, 1));
	say("the child's socket: %s", localname(made));

	say("-- shared, then unshared");
	report(unsharing_child, CLONE_VM | CLONE_FILES, p);
	T(write(p[1], "y", 1));
	T(read(p[0], &c, 1));
	say("the child's socket: %s", localname(made));

	say("-- the child of a shared table gets the same numbers");
	int n1 = must(socket(AF_INET, SOCK_STREAM, 0));
	must(close(n1));
	run(shared_child, CLONE_VM | CLONE_FILES, p);
	say("number as expected: %s", made == n1 ? "yes" : "no");
	return 0;
}

/* vfork: vfork and posix_spawn with connections, as shells and servers start programs. */
#include "common.h"
#include <spawn.h>

extern char **environ;

int main(int argc, char **argv)
{
	int p[2], st;
	char c;

	if (argc > 1 && strcmp(argv[1], "cat") == 0) {
		char b[64];
		ssize_t n;
		while ((n = read(0, b, sizeof b)) > 0)
			write_all(1, b, n);
		return 6;
	}
	begin();
	say("-- vfork and exec");
	tcp_pair(AF_INET, p);
	pid_t pid = vfork();
	if (pid == 0) {
		dup2(p[1], 0);
		dup2(p[1], 1);
		execl("/proc/self/exe", argv[0], "cat", NULL);
		_exit(9);
	}
	must(close(p[1]));
	must(write(p[0], "through a child", 15));
	say("read: %s", read_text(p[0], 15));
	must(shutdown(p[0], SHUT_WR));
	T(read(p[0], &c, 1));
	say("child: %s", join(pid));

	say("-- vfork, close, _exit");
	tcp_pair(AF_INET6, p);
	pid = vfork();
	if (pid == 0) {
		close(p[1]);
		_exit(2);
	}
	say("child: %s", join(pid));
	T(write(p[1], "x", 1));
	T(read(p[0], &c, 1));

	say("-- vfork, a failing exec");
	pid = vfork();
	if (pid == 0) {
		execl("/nonexistent", "x", NULL);
		_exit(errno == ENOENT ? 3 : 4);
	}
	say("child: %s", join(pid));
	T(write(p[0], "x", 1));
	T(read(p[1], &c, 1));

	say("-- posix_spawn with file actions");
	tcp_pair(AF_INET, p);
	posix_spawn_file_actions_t fa;
	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_adddup2(&fa, p[1], 0);
	posix_spawn_file_actions_adddup2(&fa, p[1], 1);
	posix_spawn_file_actions_addclose(&fa, p[0]);
	char *args[] = {argv[0], "cat", NULL};
	T(posix_spawn(&pid, "/proc/self/exe", &fa, NULL, args, environ));
	must(close(p[1]));
	must(write(p[0], "spawned", 7));
	say("read: %s", read_text(p[0], 7));
	must(shutdown(p[0], SHUT_WR));
	T(read(p[0], &c, 1));
	while (waitpid(pid, &st, 0) < 0)
		;
	say("child: %s", status_name(st));
	return 0;
}

/* io_uring: its socket operations would pass by the interception, so it is refused. */
#include "common.h"

int main(void)
{
	char params[120] = {0};

	begin();
	long r = syscall(SYS_io_uring_setup, 4, params);
	if (r >= 0)
		say("io_uring_setup: ok");
	else
		say("io_uring_setup: %s", ename(errno));
	return 0;
}

// Package fdtable knows which descriptor of which process is which socket, and
// makes the stand-ins that the program holds in place of its sockets.
//
// The one hard idea: there is no copy of the kernel's descriptor tables here
// that could go stale. A socket's stand-in is a real kernel object, an AF_UNIX
// socket, and the kernel gives every socket a cookie that is never used twice
// (SO_COOKIE, socket(7)). To learn what descriptor 7 of thread 4711 is, the
// descriptor is duplicated out of that thread (pidfd_getfd(2)) and its cookie
// looked up. Whatever dup, fork, vfork, clone, exec, close_range or SCM_RIGHTS
// did in between, the answer is right, for every process separately.
//
// The last close is learned from the kernel too: an inotify(7) watch for
// IN_CLOSE on the stand-in's own inode fires when the last descriptor for it,
// in whatever process or in flight in whatever message, is gone.
package fdtable

// Package linux is the engine that is a Linux kernel: one built for ARCH=um
// (User-Mode Linux), as it stands, run as an unprivileged process. Every endpoint
// is a socket of that kernel.
//
// The kernel, the guest, has two devices, which this process serves over
// vhost-user: a network card, which is one of our links, and a port. Its process 1
// is the agent (package agent), which is this very binary: the guest's root is the
// host's file system, read-only. The agent shares some of the guest's memory with
// the engine: two queues of frames (package ring), of which the port is the bell.
//
// The state of an endpoint is told as it changes, and received data and messages
// are sent up before they are asked for, as far as the engine has room for them.
// So Readiness, ReadTo, WriteFrom and Recv cost no round trip; calls do (about
// 0.15 ms), as their errno is the kernel's.
//
// Nothing is left on the host when the process ends, in whatever way: the guest's
// memory and the directory of its sockets are removed as soon as it has booted, and a
// shell that holds the other end of a pipe kills it when the pipe closes.
//
// A kernel that panics, or does not answer for some time, fails its endpoints with
// ENETDOWN; [Config.Failed] gets an error with the end of its log.
package linux

package tracer

import "golang.org/x/sys/unix"

// compatArch is the audit architecture of 32-bit programs.
const compatArch = unix.AUDIT_ARCH_I386

// compatSocketcall is i386's socketcall(2).
const compatSocketcall = 102

// compatCalls are i386's other calls (asm/unistd_32.h).
var compatCalls = map[int32]compatCall{
	54:  {nr: unix.SYS_IOCTL},
	337: {nr: unix.SYS_RECVMMSG},
	345: {nr: unix.SYS_SENDMMSG},
	359: {nr: unix.SYS_SOCKET},
	361: {nr: unix.SYS_BIND},
	362: {nr: unix.SYS_CONNECT},
	363: {nr: unix.SYS_LISTEN},
	364: {nr: unix.SYS_ACCEPT4},
	365: {nr: unix.SYS_GETSOCKOPT},
	366: {nr: unix.SYS_SETSOCKOPT},
	367: {nr: unix.SYS_GETSOCKNAME},
	368: {nr: unix.SYS_GETPEERNAME},
	369: {nr: unix.SYS_SENDTO},
	370: {nr: unix.SYS_SENDMSG},
	371: {nr: unix.SYS_RECVFROM},
	372: {nr: unix.SYS_RECVMSG},
	373: {nr: unix.SYS_SHUTDOWN},
	417: {nr: unix.SYS_RECVMMSG, time64: true},
}

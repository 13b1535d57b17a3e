package tracer

import "golang.org/x/sys/unix"

// compatArch is the audit architecture of 32-bit programs.
const compatArch = unix.AUDIT_ARCH_ARM

// compatSocketcall is no call: arm's EABI has no socketcall(2).
const compatSocketcall = -1

// compatCalls are the calls of arm's EABI (asm/unistd-common.h).
var compatCalls = map[int32]compatCall{
	54:  {nr: unix.SYS_IOCTL},
	281: {nr: unix.SYS_SOCKET},
	282: {nr: unix.SYS_BIND},
	283: {nr: unix.SYS_CONNECT},
	284: {nr: unix.SYS_LISTEN},
	285: {nr: unix.SYS_ACCEPT},
	286: {nr: unix.SYS_GETSOCKNAME},
	287: {nr: unix.SYS_GETPEERNAME},
	289: {nr: unix.SYS_SENDTO, short: true},
	290: {nr: unix.SYS_SENDTO},
	291: {nr: unix.SYS_RECVFROM, short: true},
	292: {nr: unix.SYS_RECVFROM},
	293: {nr: unix.SYS_SHUTDOWN},
	294: {nr: unix.SYS_SETSOCKOPT},
	295: {nr: unix.SYS_GETSOCKOPT},
	296: {nr: unix.SYS_SENDMSG},
	297: {nr: unix.SYS_RECVMSG},
	365: {nr: unix.SYS_RECVMMSG},
	366: {nr: unix.SYS_ACCEPT4},
	374: {nr: unix.SYS_SENDMMSG},
	417: {nr: unix.SYS_RECVMMSG, time64: true},
}

package tracer

import "golang.org/x/sys/unix"

// nativeArch is the audit architecture of programs like this one.
const nativeArch = unix.AUDIT_ARCH_X86_64

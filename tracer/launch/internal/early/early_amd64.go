package early

const (
	sysPrlimit64     = 302
	sysRtSigaction   = 13
	sysRtSigprocmask = 14
)

package early

const (
	sysPrlimit64     = 261
	sysRtSigaction   = 134
	sysRtSigprocmask = 135
)

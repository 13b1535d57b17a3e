package rootd

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// hostPorts is what the host says of its ports (ip(7)).
type hostPorts struct {
	first, last  uint16 // net.ipv4.ip_local_port_range
	unprivileged uint16 // net.ipv4.ip_unprivileged_port_start
}

// readHostPorts reads the sysctls, of the network namespace of the caller.
// What cannot be read is as Linux has it by default.
func readHostPorts() *hostPorts {
	h := hostPorts{32768, 60999, 1024}
	scan("/proc/sys/net/ipv4/ip_local_port_range", &h.first, &h.last)
	scan("/proc/sys/net/ipv4/ip_unprivileged_port_start", &h.unprivileged)
	return &h
}

// scan reads numbers from a file; all or none.
func scan(path string, values ...*uint16) {
	text, err := os.ReadFile(path)
	if err != nil {
		return
	}
	got := make([]any, len(values))
	for i := range values {
		got[i] = new(uint16)
	}
	if _, err := fmt.Sscan(string(text), got...); err != nil {
		return
	}
	for i, v := range values {
		*v = *got[i].(*uint16)
	}
}

// RaiseFileLimit raises the limit on open files, which bounds the number of
// grants: to the most that the system gives one process (fs.nr_open) where the
// caller has CAP_SYS_RESOURCE, else to the hard limit. It returns the limit.
func RaiseFileLimit() (int, error) {
	most := uint64(1 << 20)
	if text, err := os.ReadFile("/proc/sys/fs/nr_open"); err == nil {
		var n uint64
		if _, err := fmt.Sscan(string(text), &n); err == nil && n > 0 {
			most = n
		}
	}
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: most, Max: most}) == nil {
		return int(most), nil
	}
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return 0, fmt.Errorf("limit on open files: %w", err)
	}
	if lim.Cur < lim.Max {
		lim.Cur = lim.Max
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
			return 0, fmt.Errorf("limit on open files: %w", err)
		}
	}
	return int(lim.Cur), nil
}

func fileLimit() int {
	var lim unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &lim); err != nil {
		return 1024
	}
	return int(min(lim.Cur, 1<<24))
}

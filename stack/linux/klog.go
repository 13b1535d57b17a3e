package linux

import (
	"io"
	"regexp"
	"strings"
	"sync"
)

// klog keeps the end of the kernel's log, and writes all of it to a writer.
type klog struct {
	mu   sync.Mutex
	to   io.Writer // nil: nobody
	tail []byte
}

const tailLen = 16 << 10

// Write is part of io.Writer; it never fails.
func (k *klog) Write(b []byte) (int, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.tail = append(k.tail, b...)
	if len(k.tail) > 2*tailLen {
		k.tail = append(k.tail[:0], k.tail[len(k.tail)-tailLen:]...)
	}
	if k.to != nil {
		_, _ = k.to.Write(b)
	}
	return len(b), nil
}

// text is the end of the log.
func (k *klog) text() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return strings.ReplaceAll(string(k.tail), "\r\n", "\n")
}

// lastLines are the last n lines of a text.
func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// reasons are what a log says of a kernel that cannot be used.
var reasons = []struct {
	log *regexp.Regexp
	why string
}{
	{regexp.MustCompile(`(?i)VFS: (Cannot open root device|Unable to mount root)`), "the kernel cannot mount the host's files: it needs CONFIG_HOSTFS=y"},
	{regexp.MustCompile(`(?i)No working init found|Failed to execute .*init|Requested init .* failed`), "the kernel cannot run the agent: it needs CONFIG_BINFMT_ELF=y, and to be of this machine's architecture"},
	{regexp.MustCompile(`alptrace agent: (.*)`), "$1"},
	{regexp.MustCompile(`(?i)(Kernel panic - not syncing: .*)`), "$1"},
	{regexp.MustCompile(`(?i)(tmpfs|/dev/shm).*(No space|ENOSPC)|can.t (create|map) .*memory|(?i)mapping physmem failed`), "there is no room for the guest's memory ($0)"},
}

// reason is what the log tells, or "".
func reason(text string) string {
	for _, r := range reasons {
		if m := r.log.FindStringSubmatchIndex(text); m != nil {
			return strings.TrimSpace(string(r.log.ExpandString(nil, r.why, text, m)))
		}
	}
	return ""
}

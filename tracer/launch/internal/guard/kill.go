package guard

import "syscall"

// KillAll kills those children of the calling process that ours picks, and,
// if the caller is their subreaper, all their descendants, which become its
// children as their parents die. It reaps them, and returns when none is left.
// Only children are ever sent a signal: they cannot be reaped by another, so
// that no pid can have become somebody else's.
//
// sigs, if not negative, is a non-blocking descriptor that becomes readable
// when a child has ended.
func KillAll(sigs int, ours func(pid int) bool) {
	var buf [1024]byte
	killed := map[int]bool{} // and perhaps not reaped yet
	for {
		left := false
		for _, pid := range children() {
			if killed[pid] || ours(pid) {
				left, killed[pid] = true, true
				_ = syscall.Kill(pid, syscall.SIGKILL)
				var ws syscall.WaitStatus
				if got, _ := syscall.Wait4(pid, &ws, syscall.WNOHANG|waitAll, nil); got == pid {
					delete(killed, pid)
				}
			}
		}
		if !left {
			return
		}
		if sigs < 0 {
			poll([]pollFD{{fd: -1}}, 1)
			continue
		}
		poll([]pollFD{{fd: int32(sigs), events: pollIn}}, killEvery)
		_, _ = syscall.Read(sigs, buf[:])
	}
}

// children lists the children of the calling process, zombies included.
func children() []int {
	var pids []int
	for _, tid := range numbers("/proc/self/task") {
		b, err := readFile("/proc/self/task/" + itoa(tid) + "/children")
		if err != nil { // a kernel without CONFIG_PROC_CHILDREN
			return childrenByStat()
		}
		n, digits := 0, false
		for _, c := range b {
			if c >= '0' && c <= '9' {
				n, digits = n*10+int(c-'0'), true
				continue
			}
			if digits {
				pids = append(pids, n)
			}
			n, digits = 0, false
		}
	}
	return pids
}

// childrenByStat finds the children among all processes.
func childrenByStat() []int {
	var pids []int
	self := itoa(syscall.Getpid())
	for _, pid := range numbers("/proc") {
		b, err := readFile("/proc/" + itoa(pid) + "/stat")
		if err != nil {
			continue
		}
		if ppid := parentInStat(b); ppid == self {
			pids = append(pids, pid)
		}
	}
	return pids
}

// parentInStat is the parent's pid in the text of /proc/PID/stat (proc(5)),
// whose second field is in parentheses and may hold anything; "" if malformed.
func parentInStat(b []byte) string {
	i := len(b) - 1
	for i >= 0 && b[i] != ')' {
		i--
	}
	i += len(") S ")
	if i >= len(b) || b[i-1] != ' ' {
		return ""
	}
	j := i
	for j < len(b) && b[j] >= '0' && b[j] <= '9' {
		j++
	}
	return string(b[i:j])
}

// numbers lists the entries of a folder whose names are numbers.
func numbers(dir string) []int {
	fd, err := syscall.Open(dir, syscall.O_RDONLY|syscall.O_DIRECTORY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil
	}
	defer func() { _ = syscall.Close(fd) }()
	var out []int
	var buf [8192]byte
	for {
		n, err := syscall.ReadDirent(fd, buf[:])
		if err != nil || n <= 0 {
			return out
		}
		_, _, names := syscall.ParseDirent(buf[:n], -1, nil)
		for _, s := range names {
			v := 0
			for i := range len(s) {
				if s[i] < '0' || s[i] > '9' {
					v = 0
					break
				}
				v = v*10 + int(s[i]-'0')
			}
			if v > 0 {
				out = append(out, v)
			}
		}
	}
}

func readFile(name string) ([]byte, error) {
	fd, err := syscall.Open(name, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = syscall.Close(fd) }()
	var out []byte
	var buf [4096]byte
	for {
		n, err := syscall.Read(fd, buf[:])
		if err == syscall.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		if n == 0 {
			return out, nil
		}
		out = append(out, buf[:n]...)
	}
}

func itoa(n int) string {
	var b [20]byte
	i := len(b)
	for {
		i--
		b[i] = byte('0' + n%10)
		n /= 10
		if n == 0 {
			return string(b[i:])
		}
	}
}

package fdtable

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// pidfdThread is PIDFD_THREAD: the pidfd is of a thread, Linux 6.9 and later.
const pidfdThread = unix.O_EXCL

// maxPidfds bounds the cache of pidfds.
const maxPidfds = 512

// Processes reaches into the threads of the traced program. It caches a pidfd
// for each; a pidfd of a thread that has ended is found out by ESRCH, so that a
// reused number never leads to the wrong thread.
type Processes struct {
	mu     sync.Mutex
	pidfds map[int]*pidfd
	known  map[int]struct{} // processes (tgid) that hold or held sockets
}

// pidfd is a descriptor that is closed when evicted and no longer in use.
type pidfd struct {
	fd   int
	refs int
	dead bool
}

// NewProcesses returns an empty cache.
func NewProcesses() *Processes {
	return &Processes{pidfds: make(map[int]*pidfd), known: make(map[int]struct{})}
}

// Getfd duplicates descriptor fd of thread tid into this process. Errors are
// those of pidfd_getfd(2): EBADF, EPERM, ESRCH.
func (p *Processes) Getfd(tid, fd int) (int, error) {
	for try := 0; ; try++ {
		h, err := p.acquire(tid)
		if err != nil {
			return -1, err
		}
		dup, err := unix.PidfdGetfd(h.fd, fd, 0)
		p.release(h)
		if err == unix.ESRCH && try == 0 {
			p.Forget(tid)
			continue
		}
		return dup, err
	}
}

func (p *Processes) acquire(tid int) (*pidfd, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if h := p.pidfds[tid]; h != nil {
		h.refs++
		return h, nil
	}
	fd, err := openThread(tid)
	if err != nil {
		return nil, err
	}
	if len(p.pidfds) >= maxPidfds {
		for old := range p.pidfds {
			p.forgetLocked(old)
			break
		}
	}
	h := &pidfd{fd: fd, refs: 1}
	p.pidfds[tid] = h
	if tgid, err := Tgid(tid); err == nil {
		p.known[tgid] = struct{}{}
	}
	return h, nil
}

func (p *Processes) release(h *pidfd) {
	p.mu.Lock()
	h.refs--
	if h.dead && h.refs == 0 {
		unix.Close(h.fd)
	}
	p.mu.Unlock()
}

// Forget drops what is cached of thread tid.
func (p *Processes) Forget(tid int) {
	p.mu.Lock()
	p.forgetLocked(tid)
	p.mu.Unlock()
}

// Close drops all that is cached.
func (p *Processes) Close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for tid := range p.pidfds {
		p.forgetLocked(tid)
	}
}

func (p *Processes) forgetLocked(tid int) {
	h := p.pidfds[tid]
	if h == nil {
		return
	}
	delete(p.pidfds, tid)
	h.dead = true
	if h.refs == 0 {
		unix.Close(h.fd)
	}
}

// openThread opens a pidfd for a thread. Before Linux 6.9 only leaders have
// one; there the leader's serves, which is right unless a thread has left the
// descriptor table that its process shares (unshare(2) CLONE_FILES).
func openThread(tid int) (int, error) {
	fd, err := unix.PidfdOpen(tid, pidfdThread)
	if !errors.Is(err, unix.EINVAL) {
		return fd, err
	}
	if fd, err = unix.PidfdOpen(tid, 0); err == nil {
		return fd, nil
	}
	tgid, err := Tgid(tid)
	if err != nil {
		return -1, unix.ESRCH
	}
	return unix.PidfdOpen(tgid, 0)
}

// Tgid is the process (thread group) that thread tid belongs to.
func Tgid(tid int) (int, error) {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(tid) + "/status")
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(b), "\nTgid:")
	line, _, _ := strings.Cut(rest, "\n")
	return strconv.Atoi(strings.TrimSpace(line))
}

// CloexecFlag tells whether descriptor fd of thread tid is closed on exec, from
// proc(5), fdinfo.
func CloexecFlag(tid, fd int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", tid, fd))
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(b), "flags:")
	line, _, _ := strings.Cut(rest, "\n")
	flags, err := strconv.ParseUint(strings.TrimSpace(line), 8, 64)
	return err == nil && flags&unix.O_CLOEXEC != 0
}

// Descriptors is the number of open descriptors of thread tid.
func (p *Processes) Descriptors(tid int) int {
	entries, err := os.ReadDir("/proc/" + strconv.Itoa(tid) + "/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}

// Find duplicates the stand-in with this cookie from whoever holds it: first
// where it was seen last, then by a search of every known process. It is for
// the rare moments when the stand-in must be touched outside of any call.
func (p *Processes) Find(cookie uint64, tid, fd int) (int, bool) {
	if dup, ok := p.match(cookie, tid, fd); ok {
		return dup, true
	}
	p.mu.Lock()
	var pids []int
	for pid := range p.known {
		pids = append(pids, pid)
	}
	p.mu.Unlock()
	for i := 0; i < len(pids); i++ {
		dir := "/proc/" + strconv.Itoa(pids[i]) + "/fd"
		entries, err := os.ReadDir(dir)
		if err != nil {
			if errors.Is(err, os.ErrNotExist) {
				p.mu.Lock()
				delete(p.known, pids[i])
				p.mu.Unlock()
			}
			continue
		}
		for _, e := range entries {
			target, err := os.Readlink(dir + "/" + e.Name())
			if err != nil || !strings.HasPrefix(target, "socket:") {
				continue
			}
			n, _ := strconv.Atoi(e.Name())
			if dup, ok := p.match(cookie, pids[i], n); ok {
				return dup, true
			}
		}
		pids = append(pids, children(pids[i], pids)...)
	}
	return -1, false
}

func (p *Processes) match(cookie uint64, tid, fd int) (int, bool) {
	if tid == 0 {
		return -1, false
	}
	dup, err := p.Getfd(tid, fd)
	if err != nil {
		return -1, false
	}
	if c, err := Cookie(dup); err == nil && c == cookie {
		return dup, true
	}
	unix.Close(dup)
	return -1, false
}

// children lists the child processes of pid that are not in seen.
func children(pid int, seen []int) (new []int) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		return nil
	}
next:
	for _, f := range strings.Fields(string(b)) {
		c, err := strconv.Atoi(f)
		if err != nil {
			continue
		}
		for _, s := range seen {
			if s == c {
				continue next
			}
		}
		new = append(new, c)
	}
	return new
}

package fdtable

import (
	"sync"

	"golang.org/x/sys/unix"
)

// Table finds sockets of type S by the cookie of their stand-in.
type Table[S any] struct {
	Processes *Processes

	mu       sync.RWMutex
	byCookie map[uint64]S
}

// NewTable returns an empty table that reaches descriptors through procs.
func NewTable[S any](procs *Processes) *Table[S] {
	return &Table[S]{Processes: procs, byCookie: make(map[uint64]S)}
}

// Cookie is the kernel's name for the socket fd, unique while the system runs.
// The error is ENOTSOCK where fd is no socket.
func Cookie(fd int) (uint64, error) {
	return unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
}

// Add makes s findable by cookie.
func (t *Table[S]) Add(cookie uint64, s S) {
	t.mu.Lock()
	t.byCookie[cookie] = s
	t.mu.Unlock()
}

// Remove forgets the socket with this cookie.
func (t *Table[S]) Remove(cookie uint64) {
	t.mu.Lock()
	delete(t.byCookie, cookie)
	t.mu.Unlock()
}

// Get returns the socket with this cookie.
func (t *Table[S]) Get(cookie uint64) (s S, ok bool) {
	t.mu.RLock()
	s, ok = t.byCookie[cookie]
	t.mu.RUnlock()
	return s, ok
}

// Len is the number of sockets.
func (t *Table[S]) Len() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.byCookie)
}

// All returns the sockets, in no order.
func (t *Table[S]) All() []S {
	t.mu.RLock()
	defer t.mu.RUnlock()
	all := make([]S, 0, len(t.byCookie))
	for _, s := range t.byCookie {
		all = append(all, s)
	}
	return all
}

// Lookup says which socket descriptor fd of thread tid is, and returns a
// duplicate of its stand-in, which the caller closes. ok is false where fd is
// not one of the table's sockets (or no descriptor at all): such a call is the
// kernel's to answer. The error EPERM says that the thread may not be looked
// into (a program that is not dumpable, prctl(2) PR_SET_DUMPABLE).
func (t *Table[S]) Lookup(tid, fd int) (s S, dup int, ok bool, err error) {
	dup, err = t.Processes.Getfd(tid, fd)
	if err != nil {
		if err != unix.EPERM {
			err = nil
		}
		return s, -1, false, err
	}
	cookie, err := Cookie(dup)
	if err == nil {
		if s, ok = t.Get(cookie); ok {
			return s, dup, true, nil
		}
	}
	unix.Close(dup)
	return s, -1, false, nil
}

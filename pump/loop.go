// Package pump moves bytes and datagrams between the tracer's ends of the
// stand-ins and the endpoints of the stack.
//
// A [Loop] is one epoll instance and a few goroutines for all connections; a
// connection has no goroutine of its own. What happened to a connection, on
// either side, only schedules its [Task]; a task runs on one goroutine at a
// time, and once more if something happened while it ran.
package pump

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/alptrace/alptrace/internal/park"
	"golang.org/x/sys/unix"
)

// Task is work that is scheduled by events. The zero value is not usable.
type Task struct {
	loop  *Loop
	run   func(events uint32)
	state atomic.Int32
	event atomic.Uint32 // epoll events since the last run
	fd    int
	watch int32 // tells its events from older ones of the same descriptor number
	space bool  // WatchSpace is on
}

// States of a task.
const (
	idle int32 = iota
	queued
	running
	again // running, and something happened meanwhile
)

// workers is the number of goroutines that run what the endpoints schedule;
// what the program schedules runs on the epoll goroutine.
const workers = 2

// Loop runs tasks.
type Loop struct {
	epfd int
	lot  *park.Lot // of epfd

	mu      sync.RWMutex
	byFD    []*Task
	watches int32 // how many there have been

	qmu   sync.Mutex
	ready sync.Cond
	queue []*Task
}

// NewLoop starts a loop.
func NewLoop() (*Loop, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	lot, err := park.New(fd, "epoll")
	if err != nil {
		unix.Close(fd)
		return nil, err
	}
	l := &Loop{epfd: fd, lot: lot}
	l.ready.L = &l.qmu
	go l.poll()
	for range workers {
		go l.work()
	}
	return l, nil
}

// NewTask makes a task of l.
func (l *Loop) NewTask(run func(events uint32)) *Task {
	return &Task{loop: l, run: run, fd: -1}
}

// Events that a task is scheduled by. Writability only where it was missing:
// otherwise every read of the program would wake us.
const (
	reading = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET
	writing = reading | unix.EPOLLOUT
)

// Watch schedules the task, with the events, whenever there is something to
// read from fd, or its peer is gone.
func (t *Task) Watch(fd int) error {
	l := t.loop
	l.mu.Lock()
	for len(l.byFD) <= fd {
		l.byFD = append(l.byFD, make([]*Task, len(l.byFD)+64)...)
	}
	l.watches++
	l.byFD[fd] = t
	t.fd, t.watch, t.space = fd, l.watches, false
	l.mu.Unlock()
	return unix.EpollCtl(l.epfd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: reading, Fd: int32(fd), Pad: t.watch})
}

// WatchSpace schedules the task also when there is room to write again, until
// it is called with false. The task calls it while it runs.
func (t *Task) WatchSpace(on bool) {
	if t.space == on || t.fd < 0 {
		return
	}
	t.space = on
	ev := unix.EpollEvent{Events: reading, Fd: int32(t.fd), Pad: t.watch}
	if on {
		ev.Events = writing // an edge comes at once if there is room by now
	}
	unix.EpollCtl(t.loop.epfd, unix.EPOLL_CTL_MOD, t.fd, &ev)
}

// Unwatch ends Watch; it must come before fd is closed.
func (t *Task) Unwatch() {
	l := t.loop
	l.mu.Lock()
	if t.fd >= 0 {
		unix.EpollCtl(l.epfd, unix.EPOLL_CTL_DEL, t.fd, nil)
		l.byFD[t.fd] = nil
		t.fd = -1
	}
	l.mu.Unlock()
}

// Kick schedules the task. It does not block, so an engine may call it with
// its locks held.
func (t *Task) Kick() {
	if t.wake(queued) {
		t.loop.push(t)
	}
}

// wake moves the task out of idle into state to, or notes that it must run
// again; it reports whether the caller now has to see that it runs.
func (t *Task) wake(to int32) bool {
	for {
		switch s := t.state.Load(); s {
		case idle:
			if t.state.CompareAndSwap(idle, to) {
				return true
			}
		case running:
			if t.state.CompareAndSwap(running, again) {
				return false
			}
		default:
			return false
		}
	}
}

// Run runs the task now on the caller's goroutine unless it is scheduled or
// running already.
func (t *Task) Run() {
	if t.wake(running) {
		t.exec()
	}
}

// exec runs a task whose state is running.
func (t *Task) exec() {
	t.run(t.event.Swap(0))
	if !t.state.CompareAndSwap(running, idle) {
		t.state.Store(queued)
		t.loop.push(t)
	}
}

func (l *Loop) push(t *Task) {
	l.qmu.Lock()
	l.queue = append(l.queue, t)
	l.qmu.Unlock()
	l.ready.Signal()
}

func (l *Loop) work() {
	for {
		l.qmu.Lock()
		for len(l.queue) == 0 {
			l.ready.Wait()
		}
		t := l.queue[0]
		l.queue[0] = nil
		l.queue = l.queue[1:]
		l.qmu.Unlock()
		t.state.Store(running)
		t.exec()
	}
}

// poll runs what the descriptors schedule.
func (l *Loop) poll() {
	events := make([]unix.EpollEvent, 128)
	tasks := make([]*Task, 0, len(events))
	l.lot.Wait(func() bool {
		for {
			n := epollWait(l.epfd, events)
			if n < 0 {
				return true
			}
			tasks = l.due(events[:n], tasks[:0])
			// All but the last go to the workers, so that none waits for another.
			for i, t := range tasks {
				if i < len(tasks)-1 {
					t.Kick()
				} else {
					t.Run()
				}
			}
			if n < len(events) {
				return false // what comes now is a new edge
			}
		}
	})
}

// due appends the tasks that wait for the events.
func (l *Loop) due(events []unix.EpollEvent, tasks []*Task) []*Task {
	l.mu.RLock()
	defer l.mu.RUnlock()
	for i := range events {
		fd := int(events[i].Fd)
		if t := l.byFD[fd]; t != nil && t.watch == events[i].Pad {
			t.event.Or(events[i].Events)
			tasks = append(tasks, t)
		}
	}
	return tasks
}

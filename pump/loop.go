// Package pump moves bytes and datagrams between the tracer's ends of the
// stand-ins and the endpoints of the stack.
//
// A [Loop] is a few goroutines for all connections; a connection has none of
// its own. What happened to a connection, on
// either side, only schedules its [Task]; a task runs on one goroutine at a
// time, and once more if something happened while it ran.
package pump

import (
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

	mu      sync.Mutex
	watch   park.Watch
	watched bool
	space   bool // WatchSpace is on
}

// States of a task.
const (
	idle int32 = iota
	queued
	running
	again // running, and something happened meanwhile
)

// workers is the number of goroutines that run the tasks.
const workers = 2

// Loop runs tasks.
type Loop struct {
	qmu   sync.Mutex
	ready sync.Cond
	queue []*Task
	ended bool
}

// NewLoop starts a loop.
func NewLoop() *Loop {
	l := new(Loop)
	l.ready.L = &l.qmu
	for range workers {
		go l.work()
	}
	return l
}

// Close ends the loop's goroutines when all that is scheduled has run. Tasks that
// are scheduled later do not run.
func (l *Loop) Close() {
	l.qmu.Lock()
	defer l.qmu.Unlock()
	l.ended = true
	l.ready.Broadcast()
}

// NewTask makes a task of l.
func (l *Loop) NewTask(run func(events uint32)) *Task {
	return &Task{loop: l, run: run}
}

// Events that a task is scheduled by. Writability only where it was missing:
// otherwise every read of the program would wake us.
const (
	reading = unix.EPOLLIN | unix.EPOLLRDHUP | unix.EPOLLET
	writing = reading | unix.EPOLLOUT
)

// Watch schedules the task, with the events, whenever there is something to
// read from fd, or its peer is gone.
func (t *Task) Watch(fd int) (err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.watch, err = park.Add(fd, reading, t)
	t.watched, t.space = err == nil, false
	return err
}

// WatchSpace schedules the task also when there is room to write again, until
// it is called with false.
func (t *Task) WatchSpace(on bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.space == on || !t.watched {
		return
	}
	t.space = on
	if on {
		_ = t.watch.Set(writing) // an edge comes at once if there is room by now
	} else {
		_ = t.watch.Set(reading)
	}
}

// Unwatch ends Watch; it must come before fd is closed, which must follow.
func (t *Task) Unwatch() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.watched {
		t.watch.Remove()
		t.watched = false
	}
}

// Ready schedules the task with the events. It is part of park.Handler.
func (t *Task) Ready(events uint32) {
	t.event.Or(events)
	t.Kick()
}

// Kick schedules the task. It does not block, so an engine may call it with
// its locks held.
func (t *Task) Kick() {
	for {
		switch t.state.Load() {
		case idle:
			if t.state.CompareAndSwap(idle, queued) {
				t.loop.push(t)
				return
			}
		case running:
			if t.state.CompareAndSwap(running, again) {
				return
			}
		default:
			return
		}
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
			if l.ended {
				l.qmu.Unlock()
				return
			}
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

// Package agent is process 1 of the guest: it does there what the engine asks
// for, on real sockets.
//
// A system call of the guest takes ten times what it takes on the host, so
// there are few: one thread, one epoll instance with edges, data sent from and
// received into the shared memory.
//
// Importing the package is what makes a binary that is process 1, with
// proto.EnvAgent in its environment, the agent.
package agent

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/stack/linux/internal/proto"
	"github.com/alptrace/alptrace/stack/linux/ring"
)

func init() {
	modules, ok := os.LookupEnv(proto.EnvAgent)
	if !ok || os.Getpid() != 1 {
		return
	}
	runtime.LockOSThread()
	// The loop makes no garbage to speak of, and must not wait for other threads.
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(32 << 20)
	if err := run(modules); err != nil {
		fmt.Fprintln(os.Stderr, "alptrace agent:", err)
	}
	powerOff()
}

func powerOff() {
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	os.Exit(1)
}

func run(modules string) error {
	port, err := setUp(modules)
	if err != nil {
		return err
	}
	mem, frames, err := shareMemory()
	if err != nil {
		refuse(port, err)
		return err
	}
	side, err := ring.Guest(ring.Memory{mem})
	if err != nil {
		refuse(port, err)
		return err
	}
	a := &agent{side: side, port: port, eps: map[uint32]*endpoint{}, scratch: make([]byte, 80<<10), buf: make([]byte, 64<<10)}
	if a.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		refuse(port, err)
		return fmt.Errorf("epoll_create: %w", err)
	}
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLHUP | edge, Fd: portID}
	if err := unix.EpollCtl(a.epoll, unix.EPOLL_CTL_ADD, port, &ev); err != nil {
		refuse(port, err)
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	if err := writeAll(port, frames); err != nil {
		return fmt.Errorf("write to the port: %w", err)
	}
	return a.loop()
}

// portID is the number of the port among the events.
const portID = -1

// edge is EPOLLET without its sign.
const edge = 1 << 31

type agent struct {
	side  *ring.Side
	port  int
	epoll int
	eps   map[uint32]*endpoint
	gone  bool // the engine is

	published bool // since the bell was rung last
	asked     bool // a request was made
	answers   []answer
	bells     int
	buf       []byte // of requests
	scratch   []byte // of messages
	events    [128]unix.EpollEvent
	probe     int // how often streams are looked at, milliseconds; 0: never
}

// answer is one that is held back until what the request caused has been told.
type answer struct {
	f    ring.Frame
	head [proto.ArgsLen]byte
	body []byte
}

func (a *agent) loop() error {
	for !a.gone {
		more, err := a.takeFrames()
		if err != nil {
			return err
		}
		switch {
		case a.asked:
			a.asked = false
			a.handle(a.wait(0))
			a.answer()
		case more:
			a.handle(a.wait(0))
		}
		a.sample()
		a.ring()
		if more || !a.side.Sleep() {
			continue
		}
		n := a.wait(a.patience())
		a.side.Awake()
		a.handle(n)
	}
	return nil
}

// maxFrames are taken at once.
const maxFrames = 64

// takeFrames does what the engine asks for; more says that it was not all.
func (a *agent) takeFrames() (more bool, err error) {
	for range maxFrames {
		f, ok, err := a.side.In.Next()
		if err != nil {
			return false, err
		}
		if !ok {
			return false, nil
		}
		a.do(f)
		a.side.In.Done(f)
	}
	return true, nil
}

// wait is epoll_wait.
func (a *agent) wait(msec int) int {
	for {
		n, _, errno := epollWait(a.epoll, a.events[:], msec)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return 0
		}
		return n
	}
}

// handle does what n events call for.
func (a *agent) handle(n int) {
	for i := range n {
		ev := &a.events[i]
		if ev.Fd == portID {
			a.bell(ev.Events)
			continue
		}
		if ep := a.eps[uint32(ev.Fd)]; ep != nil {
			a.event(ep, ev.Events)
		}
	}
}

// bell is called when the engine has rung. The bytes are read only now and then.
func (a *agent) bell(events uint32) {
	if events&unix.EPOLLHUP != 0 {
		a.gone = true
		return
	}
	const often = 32
	if a.bells++; a.bells < often {
		return
	}
	a.bells = 0
	for {
		n, errno := sysRead(a.port, a.scratch[:4096])
		if errno != 0 || n <= 0 {
			if n == 0 && errno == 0 {
				a.gone = true
			}
			return
		}
	}
}

// put publishes a frame, and waits for room if there is none: the engine takes
// frames whatever it waits for itself.
func (a *agent) put(f ring.Frame, payload ...[]byte) {
	for !a.side.Out.Put(f, payload...) {
		a.published = true
		a.ring()
		pause()
	}
	a.published = true
}

// ring wakes the engine if it sleeps and there is something for it.
func (a *agent) ring() {
	if a.published {
		a.published = false
		if a.side.MustRing() {
			_, _ = sysWrite(a.port, []byte{1})
		}
	}
}

func (a *agent) answer() {
	for i := range a.answers {
		w := &a.answers[i]
		// What has been told meanwhile is newer than what the call found.
		if ep := a.eps[w.f.ID]; ep != nil && binary.LittleEndian.Uint32(w.head[8:]) != proto.MaskUnknown {
			binary.LittleEndian.PutUint32(w.head[8:], ep.mask)
		}
		a.put(w.f, w.head[:], w.body)
		w.body = nil
	}
	a.answers = a.answers[:0]
}

// reply answers f.
func (a *agent) reply(f ring.Frame, errno unix.Errno, result, mask uint32, body []byte) {
	a.answers = append(a.answers, answer{
		f:    ring.Frame{Op: proto.OpAnswer, ID: f.ID, Seq: f.Seq},
		head: proto.Args(uint32(errno), result, mask), body: body,
	})
}

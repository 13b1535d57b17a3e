package fdtable

import (
	"fmt"
	"sync"

	"golang.org/x/sys/unix"
)

// Messages is the stand-in of a datagram socket (UDP, ICMP, raw): an AF_UNIX
// datagram pair, of which the program holds one half and the tracer the other.
//
// Datagrams keep their boundaries in both directions. The halves are each
// other's peers also while the socket itself is not connected: only then does
// the kernel bound the queue by the buffer and not by ten datagrams. So that a
// native send(2) on an unconnected socket fails all the same, the tracer's half
// is shut for reading (EPIPE, where UDP has EDESTADDRREQ); since that cannot be
// undone, connecting the socket puts another half in its place.
//
// The program may take a datagram natively (recv, read) or by a trapped call
// (recvfrom with an address, recvmsg), and the tracer must know, for the
// trapped ones, where the datagram at the head came from. No tag travels with
// the datagram: the tracer's SIOCOUTQ is the memory of exactly those datagrams
// that the program has not taken yet, and each one's memory is known, so the
// head of the queue is wherever the sums agree.
type Messages struct {
	end int // the tracer's half

	mu    sync.Mutex
	deaf  bool     // end is shut for reading: the socket is not connected
	queue []Origin // datagrams in the program's half, oldest first
	sizes int      // sum of their memory
}

// Origin is what is known of a datagram besides its bytes.
type Origin struct {
	Source  any // the engine's address
	Control []byte
	memory  int
}

// NewMessages makes a pair. program is the descriptor to hand over, which the
// caller closes after that.
func NewMessages() (m *Messages, program int, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, -1, fmt.Errorf("stand-in: %w", err)
	}
	setBuffers(fds[0])
	setBuffers(fds[1])
	unix.SetNonblock(fds[0], true)
	m = &Messages{end: fds[0]}
	m.Disconnect()
	return m, fds[1], nil
}

// Disconnect makes native sends fail. What the program sent before should have
// been taken from End.
func (m *Messages) Disconnect() {
	m.mu.Lock()
	defer m.mu.Unlock()
	unix.Shutdown(m.end, unix.SHUT_RD)
	m.deaf = true
}

// Connect lets the program send natively through the stand-in dup. It reports
// whether End is another socket now, under the same number.
func (m *Messages) Connect(dup int) (replaced bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.connect(dup)
}

func (m *Messages) connect(dup int) (replaced bool, err error) {
	if !m.deaf {
		return false, nil
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return false, err
	}
	defer unix.Close(fd)
	setBuffers(fd)
	end, err := autobind(fd)
	if err != nil {
		return false, err
	}
	program, err := autobind(dup)
	if err != nil {
		return false, err
	}
	waiting := m.takeAll(dup) // the kernel drops them when the peer changes
	if err := unix.Connect(dup, end); err != nil {
		return false, err
	}
	if err := unix.Connect(fd, program); err != nil {
		return false, err
	}
	if err := unix.Dup3(fd, m.end, unix.O_CLOEXEC); err != nil {
		return false, err
	}
	m.deaf = false
	for _, w := range waiting {
		if err := m.push(w.data, w.origin); err != nil {
			return true, err
		}
	}
	return true, nil
}

// autobind gives an AF_UNIX socket a name of the kernel's choosing, unless it
// has one, and returns it.
func autobind(fd int) (unix.Sockaddr, error) {
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: ""}); err != nil && err != unix.EINVAL {
		return nil, err
	}
	return unix.Getsockname(fd)
}

type datagram struct {
	data   []byte
	origin Origin
}

// takeAll takes the datagrams that wait in the stand-in dup.
func (m *Messages) takeAll(dup int) (all []datagram) {
	m.sync()
	buf := make([]byte, 1<<16)
	for len(m.queue) > 0 {
		n, _, err := unix.Recvfrom(dup, buf, unix.MSG_DONTWAIT)
		if err != nil {
			break
		}
		all = append(all, datagram{append([]byte(nil), buf[:n]...), m.queue[0]})
		m.drop(1)
	}
	m.drop(len(m.queue))
	return all
}

// End is the tracer's half, non-blocking.
func (m *Messages) End() int { return m.end }

// Close closes the tracer's half.
func (m *Messages) Close() { unix.Close(m.end) }

// Push queues a datagram on the program's half. EAGAIN while it is full.
func (m *Messages) Push(data []byte, o Origin) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.push(data, o)
}

func (m *Messages) push(data []byte, o Origin) error {
	memory, err := datagramMemory(len(data))
	if err != nil {
		return err
	}
	if err := sendDatagram(m.end, data); err != nil {
		return err
	}
	o.memory = memory
	m.queue = append(m.queue, o)
	m.sizes += memory
	return nil
}

// Take receives the oldest datagram from the stand-in dup as recvmsg(2) with
// flags (MSG_PEEK, MSG_TRUNC) would, into buf, and says where it came from. n
// is the datagram's whole length. EAGAIN when there is none.
func (m *Messages) Take(dup int, buf []byte, flags int) (n int, o Origin, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sync()
	n, _, err = unix.Recvfrom(dup, buf, flags&unix.MSG_PEEK|unix.MSG_DONTWAIT|unix.MSG_TRUNC)
	if err != nil {
		return 0, o, err
	}
	if len(m.queue) == 0 {
		return n, o, nil // a datagram that is none of ours
	}
	o = m.queue[0]
	if flags&unix.MSG_PEEK == 0 {
		m.drop(1)
	}
	return n, o, nil
}

// Waiting is the number of datagrams that the program has not taken yet, and
// the length of the first, which dup is asked for.
func (m *Messages) Waiting() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.sync()
	return len(m.queue)
}

// sync forgets the datagrams that the program took natively.
func (m *Messages) sync() {
	if len(m.queue) == 0 {
		return
	}
	left, err := unix.IoctlGetInt(m.end, unix.SIOCOUTQ)
	if err != nil {
		return
	}
	for len(m.queue) > 0 && m.sizes > left {
		m.drop(1)
	}
}

func (m *Messages) drop(n int) {
	for i := range n {
		m.sizes -= m.queue[i].memory
		m.queue[i] = Origin{}
	}
	m.queue = m.queue[n:]
	if len(m.queue) == 0 {
		m.queue = nil
	}
}

// Fail makes the program's next native call on the stand-in dup fail, and polls
// report POLLERR: the tracer's half leaves its peer with bytes unread. The kernel
// says ECONNRESET where UDP has ECONNREFUSED. It reports, as Connect does,
// whether End is another socket.
func (m *Messages) Fail(dup int) (replaced bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.deaf {
		if replaced, err = m.connect(dup); err != nil {
			return replaced, err
		}
		defer func() {
			unix.Shutdown(m.end, unix.SHUT_RD)
			m.deaf = true
		}()
	}
	return replaced, m.fail(dup)
}

func (m *Messages) fail(dup int) error {
	name, err := autobind(dup)
	if err != nil {
		return err
	}
	send := func() error {
		_, err := unix.SendmsgN(dup, []byte{0}, nil, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		return err
	}
	err = send()
	if err == unix.ECONNRESET {
		err = send() // the first has taken an error that was pending already
	}
	if err != nil {
		return err
	}
	if err := connectUnspec(m.end); err != nil {
		return err
	}
	return unix.Connect(m.end, name)
}

// memoryOf caches what the kernel charges for a datagram of a length.
var memoryOf struct {
	sync.Mutex
	pair  [2]int
	sizes map[int]int
}

// datagramMemory is the memory, bytes, that the kernel charges the sender of an
// AF_UNIX datagram of n bytes until it is received. It depends on the kernel's
// allocator, so it is measured, once for each length.
func datagramMemory(n int) (int, error) {
	c := &memoryOf
	c.Lock()
	defer c.Unlock()
	if size, ok := c.sizes[n]; ok {
		return size, nil
	}
	if c.sizes == nil {
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		if err != nil {
			return 0, err
		}
		setBuffers(pair[0])
		c.pair, c.sizes = pair, make(map[int]int)
	}
	if err := sendDatagram(c.pair[0], make([]byte, n)); err != nil {
		return 0, err
	}
	size, err := unix.IoctlGetInt(c.pair[0], unix.SIOCOUTQ)
	if _, e := unix.Read(c.pair[1], make([]byte, 1)); err == nil {
		err = e
	}
	if err != nil {
		return 0, err
	}
	c.sizes[n] = size
	return size, nil
}

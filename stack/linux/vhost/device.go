package vhost

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/internal/park"
)

// Config describes a device.
type Config struct {
	Name     string
	Features uint64 // of the kind of device, and VIRTIO_F_*
	Space    []byte // its configuration space
	Queues   int
	// Kick is called when the driver has put buffers into a queue, or a queue
	// has been started. It must not block; other calls of it may run meanwhile.
	Kick func(queue int)
	// Failed is called, once, when the driver is gone or has done what it must
	// not; err is io.EOF when it closed the connection.
	Failed func(err error)
}

// Device is one device of one driver.
type Device struct {
	cfg    Config
	conn   *net.UnixConn
	queues []*Queue
	mem    memory // once set, it stays until Close
	acked  uint64 // the features that the driver took
	once   sync.Once
	done   chan struct{}
	req    int // where requests to the driver would go; nothing is asked for
}

// featureVersion1 says that the device is no legacy one (VIRTIO_F_VERSION_1).
const featureVersion1 = 1 << 32

// Serve serves a device to the driver at the other end of conn, which it owns.
func Serve(conn *net.UnixConn, cfg Config) *Device {
	cfg.Features |= featureVersion1
	d := &Device{cfg: cfg, conn: conn, done: make(chan struct{}), req: -1}
	for i := range cfg.Queues {
		d.queues = append(d.queues, &Queue{dev: d, index: i, kick: -1, call: -1})
	}
	go d.serve()
	return d
}

// Queue is the queue of that number.
func (d *Device) Queue(i int) *Queue { return d.queues[i] }

// Close ends the device. Nobody may use its queues any more.
func (d *Device) Close() error {
	err := d.conn.Close()
	<-d.done
	d.mem.unmap()
	d.mem = nil
	return err
}

// fail ends the device.
func (d *Device) fail(err error) {
	d.once.Do(func() {
		if d.cfg.Failed != nil {
			d.cfg.Failed(err)
		}
	})
	_ = d.conn.Close()
}

func (d *Device) serve() {
	defer close(d.done)
	defer d.release()
	for {
		m, err := readMessage(d.conn)
		if err != nil {
			if errors.Is(err, net.ErrClosed) {
				err = io.EOF
			}
			d.fail(err)
			return
		}
		err = d.handle(m)
		m.closeFDs()
		if err != nil {
			d.fail(fmt.Errorf("%s: %w", d.cfg.Name, err))
			return
		}
	}
}

// release stops the queues. Their memory stays, as somebody may be at it.
func (d *Device) release() {
	for _, q := range d.queues {
		q.stop()
	}
	closeFD(d.req)
}

func closeFD(fd int) {
	if fd >= 0 {
		unix.Close(fd)
	}
}

// handle does what the driver asks for.
func (d *Device) handle(m *message) error {
	switch m.request {
	case reqGetFeatures:
		return replyUint64(d.conn, m, d.cfg.Features|featureProtocol)
	case reqGetProtocolFeatures:
		return replyUint64(d.conn, m, protocolReplyAck|protocolBackendReq|protocolConfig)
	case reqGetQueueNum:
		return replyUint64(d.conn, m, uint64(len(d.queues)))
	case reqGetConfig:
		return d.getSpace(m)
	case reqGetVringBase:
		q, err := d.queueOf(m)
		if err != nil {
			return err
		}
		q.stop()
		return reply(d.conn, m, binary.NativeEndian.AppendUint32(binary.NativeEndian.AppendUint32(nil, uint32(q.index)), uint32(q.next)))
	}
	if err := d.set(m); err != nil {
		return err
	}
	if m.flags&flagNeedReply != 0 {
		return replyUint64(d.conn, m, 0)
	}
	return nil
}

// set does the requests that have no answer of their own.
func (d *Device) set(m *message) error {
	switch m.request {
	case reqSetOwner, reqSetProtocolFeatures, reqSetConfig, reqSetVringErr:
		return nil
	case reqSetBackendReqFD:
		closeFD(d.req)
		d.req = m.takeFD()
		return nil
	case reqSetFeatures:
		d.acked = m.uint64(0)
		return nil
	case reqSetMemTable:
		if d.mem != nil {
			return errors.New("the guest's memory is given twice")
		}
		var err error
		d.mem, err = mapMemory(m)
		return err
	}
	q, err := d.queueOf(m)
	if err != nil {
		return err
	}
	switch m.request {
	case reqSetVringNum:
		return q.setNum(m.uint32(4))
	case reqSetVringBase:
		q.base = uint16(m.uint32(4))
		return nil
	case reqSetVringAddr:
		return q.setAddr(m)
	case reqSetVringKick:
		return q.setKick(m.takeFD())
	case reqSetVringCall:
		q.setCall(m.takeFD())
		return nil
	case reqSetVringEnable:
		return q.enable(m.uint32(4) != 0)
	}
	return fmt.Errorf("unknown request %d", m.request)
}

// queueOf is the queue that the message is about.
func (d *Device) queueOf(m *message) (*Queue, error) {
	if err := m.need(8); err != nil {
		return nil, err
	}
	i := m.uint32(0)
	if m.request == reqSetVringKick || m.request == reqSetVringCall {
		i &^= noDescriptor
		i &= 0xff
	}
	if i >= uint32(len(d.queues)) {
		return nil, fmt.Errorf("request %d: queue %d of %d", m.request, i, len(d.queues))
	}
	return d.queues[i], nil
}

// getSpace answers with a part of the configuration space.
func (d *Device) getSpace(m *message) error {
	const header = 12
	if err := m.need(header); err != nil {
		return err
	}
	off, size := uint64(m.uint32(0)), uint64(m.uint32(4))
	if size > maxMessage-header {
		return fmt.Errorf("configuration space: %d bytes", size)
	}
	b := make([]byte, header+size)
	copy(b, m.payload[:header])
	if off < uint64(len(d.cfg.Space)) {
		copy(b[header:], d.cfg.Space[off:])
	}
	return reply(d.conn, m, b)
}

// Features are those that the driver took.
func (d *Device) Features() uint64 { return d.acked }

// setNum sets the size of the rings.
func (q *Queue) setNum(n uint32) error {
	if n == 0 || n > maxRing || n&(n-1) != 0 {
		return fmt.Errorf("%w: %d descriptors", errRing, n)
	}
	if q.running.Load() {
		return fmt.Errorf("%w: resized while it runs", errRing)
	}
	q.num = n
	return nil
}

// setAddr maps the rings: {index, flags, desc, used, avail, log}.
func (q *Queue) setAddr(m *message) (err error) {
	if err := m.need(40); err != nil {
		return err
	}
	if q.running.Load() || q.num == 0 {
		return fmt.Errorf("%w: addresses before its size, or twice", errRing)
	}
	desc, used, avail := m.uint64(8), m.uint64(16), m.uint64(24)
	if desc%16 != 0 || used%4 != 0 || avail%4 != 0 {
		return fmt.Errorf("%w: not aligned", errRing)
	}
	q.mem = q.dev.mem
	n := uint64(q.num)
	if q.desc, err = q.mem.slice(desc, n*descLen); err != nil {
		return err
	}
	if q.avail, err = q.mem.slice(avail, 6+2*n); err != nil {
		return err
	}
	q.used, err = q.mem.slice(used, 6+8*n)
	return err
}

func (q *Queue) setCall(fd int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	closeFD(q.call)
	if q.call = fd; fd >= 0 {
		_ = unix.SetNonblock(fd, true)
	}
}

func (q *Queue) setKick(fd int) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.dropKick()
	if fd < 0 {
		return nil
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return err
	}
	w, err := park.Add(fd, unix.EPOLLIN|unix.EPOLLET, q)
	if err != nil {
		unix.Close(fd)
		return err
	}
	q.kick, q.watch = fd, w
	return nil
}

// dropKick forgets the descriptor by which the driver kicks.
func (q *Queue) dropKick() {
	if q.kick >= 0 {
		q.watch.Remove()
		unix.Close(q.kick)
		q.kick = -1
	}
}

// enable starts or stops the queue.
func (q *Queue) enable(on bool) error {
	if !on {
		q.running.Store(false)
		return nil
	}
	if q.running.Load() {
		return nil
	}
	if q.desc == nil || q.avail == nil || q.used == nil {
		return fmt.Errorf("%w: started without addresses", errRing)
	}
	q.chains = make([]Chain, q.num)
	q.next, q.done, q.shown = q.base, q.base, q.base
	q.running.Store(true)
	if q.dev.cfg.Kick != nil {
		q.dev.cfg.Kick(q.index)
	}
	return nil
}

// Ready is called when the driver has kicked; it is part of park.Handler. The
// count in the event file is left there: edges come with every write.
func (q *Queue) Ready(uint32) {
	if q.running.Load() && q.dev.cfg.Kick != nil {
		q.dev.cfg.Kick(q.index)
	}
}

func (q *Queue) stop() {
	q.running.Store(false)
	q.mu.Lock()
	defer q.mu.Unlock()
	q.dropKick()
	closeFD(q.call)
	q.call = -1
}

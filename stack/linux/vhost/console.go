package vhost

import (
	"encoding/binary"
	"net"
	"sync"
)

// The console (VIRTIO 1.2, 5.3), of which one port is served: a stream of bytes
// in each direction, which the guest opens as /dev/vport0p1 or so.
const (
	IDConsole = 3 // the device's number

	consoleMultiport = 1 << 1

	portReceive     = 0 // queues: to the guest
	portTransmit    = 1
	controlReceive  = 2
	controlTransmit = 3

	// Events of the control queues.
	deviceReady = 0
	portAdd     = 1
	portReady   = 3
	portOpen    = 6
	portName    = 7
)

// PortName is the port's name in the guest: /sys/class/virtio-ports/*/name.
const PortName = "alptrace"

// Port is a stream of bytes to and from the guest.
type Port struct {
	dev *Device

	// Of the lookout and of whoever writes.
	mu      sync.Mutex
	open    bool
	control [][]byte // events that the guest has no buffer for yet
	wanted  bool     // a Write did not fit

	ring chan struct{}
	stop chan struct{}
	wg   sync.WaitGroup
	recv func([]byte)
	room func()
}

// NewPort serves a port to the driver at the other end of conn, which it owns.
// recv gets what the guest writes, in order, from one goroutine; the bytes are
// its own only during the call. room is called when there is room again after a
// Write that did not fit, and when the guest opens or closes the port. failed
// is called when the driver is gone.
func NewPort(conn *net.UnixConn, recv func([]byte), room func(), failed func(error)) *Port {
	p := &Port{ring: make(chan struct{}, 1), stop: make(chan struct{}), recv: recv, room: room}
	space := make([]byte, 12)
	binary.LittleEndian.PutUint32(space[4:], 1) // ports
	p.dev = Serve(conn, Config{Name: "port", Features: consoleMultiport, Space: space, Queues: 4, Kick: p.kick, Failed: failed})
	p.wg.Go(p.run)
	return p
}

// Close ends the port.
func (p *Port) Close() error {
	close(p.stop)
	p.wg.Wait()
	return p.dev.Close()
}

func (p *Port) kick(int) {
	select {
	case p.ring <- struct{}{}:
	default:
	}
}

// Memory is n bytes of the guest's memory at a physical address. It is there once
// the guest has opened the port, until Close.
func (p *Port) Memory(addr, n uint64) ([]byte, error) { return p.dev.mem.slice(addr, n) }

// Write gives the guest as much of the buffers, one after the other, as fits,
// and returns how many bytes that was.
func (p *Port) Write(bufs ...[]byte) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	q := p.dev.Queue(portReceive)
	done, want := 0, total(bufs)
	for done < want && p.open {
		ch, err := q.Pop()
		if err != nil || ch == nil {
			break
		}
		n := 0
		for _, in := range ch.In {
			for len(in) > 0 && len(bufs) > 0 {
				k := copy(in, bufs[0])
				in, bufs[0] = in[k:], bufs[0][k:]
				if n += k; len(bufs[0]) == 0 {
					bufs = bufs[1:]
				}
			}
		}
		q.Push(ch, n)
		done += n
	}
	q.Flush()
	p.wanted = done < want
	q.Quiet(!p.wanted)
	return done
}

// run does what the guest asks for.
func (p *Port) run() {
	var b []byte
	for {
		select {
		case <-p.ring:
		case <-p.stop:
			return
		}
		q := p.dev.Queue(portTransmit)
		for {
			ch, err := q.Pop()
			if err != nil || ch == nil {
				break
			}
			b = b[:0]
			for _, o := range ch.Out {
				b = append(b, o...)
			}
			q.Push(ch, 0)
			q.Flush()
			p.recv(b)
		}
		p.events()
		p.mu.Lock()
		room := p.wanted && p.dev.Queue(portReceive).Waiting() > 0
		if room {
			p.wanted = false
		}
		p.mu.Unlock()
		if room {
			p.room()
		}
	}
}

// events answers the control queue.
func (p *Port) events() {
	q := p.dev.Queue(controlTransmit)
	for {
		ch, err := q.Pop()
		if err != nil || ch == nil {
			break
		}
		var b []byte
		for _, o := range ch.Out {
			b = append(b, o...)
		}
		q.Push(ch, 0)
		if len(b) >= 8 {
			p.event(binary.LittleEndian.Uint16(b[4:]), binary.LittleEndian.Uint16(b[6:]))
		}
	}
	q.Flush()
	q = p.dev.Queue(controlReceive)
	for len(p.control) > 0 {
		ch, err := q.Pop()
		if err != nil || ch == nil {
			break
		}
		w := writer{chains: []*Chain{ch}}
		w.write(p.control[0])
		q.Push(ch, min(len(p.control[0]), ch.InLen()))
		p.control = p.control[1:]
	}
	q.Flush()
}

// event is one event of the guest's.
func (p *Port) event(event, value uint16) {
	say := func(event, value uint16, more string) {
		b := binary.LittleEndian.AppendUint32(nil, 0)
		b = binary.LittleEndian.AppendUint16(b, event)
		b = binary.LittleEndian.AppendUint16(b, value)
		p.control = append(p.control, append(b, more...))
	}
	switch event {
	case deviceReady:
		say(portAdd, 1, "")
	case portReady:
		say(portName, 1, PortName)
		say(portOpen, 1, "")
	case portOpen:
		p.mu.Lock()
		p.open = value != 0
		p.mu.Unlock()
		p.room()
	}
}

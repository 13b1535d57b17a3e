package vhost

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// Requests of the driver (VHOST_USER_*).
const (
	reqGetFeatures         = 1
	reqSetFeatures         = 2
	reqSetOwner            = 3
	reqSetMemTable         = 5
	reqSetVringNum         = 8
	reqSetVringAddr        = 9
	reqSetVringBase        = 10
	reqGetVringBase        = 11
	reqSetVringKick        = 12
	reqSetVringCall        = 13
	reqSetVringErr         = 14
	reqGetProtocolFeatures = 15
	reqSetProtocolFeatures = 16
	reqGetQueueNum         = 17
	reqSetVringEnable      = 18
	reqSetBackendReqFD     = 21
	reqGetConfig           = 24
	reqSetConfig           = 25
)

// Flags of a message.
const (
	flagVersion   = 1
	flagReply     = 1 << 2
	flagNeedReply = 1 << 3
)

// Features of the protocol itself.
const (
	featureProtocol = 1 << 30 // VHOST_USER_F_PROTOCOL_FEATURES

	protocolReplyAck   = 1 << 3
	protocolBackendReq = 1 << 5 // virtio_uml interrupts nothing without it
	protocolConfig     = 1 << 9
)

// noDescriptor is set where a message about a ring has no descriptor.
const noDescriptor = 1 << 8

// maxMessage and maxFDs bound a message of the driver.
const (
	headerLen  = 12
	maxMessage = 4096
	maxFDs     = 8
)

// message is a request of the driver.
type message struct {
	request, flags uint32
	payload        []byte
	fds            []int
}

// errShort is a message with too little in it.
var errShort = errors.New("message is too short")

func (m *message) uint32(at int) uint32 {
	if len(m.payload) < at+4 {
		return 0
	}
	return binary.NativeEndian.Uint32(m.payload[at:])
}

func (m *message) uint64(at int) uint64 {
	if len(m.payload) < at+8 {
		return 0
	}
	return binary.NativeEndian.Uint64(m.payload[at:])
}

// need fails unless the message has n bytes.
func (m *message) need(n int) error {
	if len(m.payload) < n {
		return fmt.Errorf("request %d: %w", m.request, errShort)
	}
	return nil
}

// takeFD takes the message's descriptor, -1 if it has none.
func (m *message) takeFD() int {
	if len(m.fds) == 0 {
		return -1
	}
	fd := m.fds[0]
	m.fds = m.fds[1:]
	return fd
}

// closeFDs closes what nobody has taken.
func (m *message) closeFDs() {
	for _, fd := range m.fds {
		unix.Close(fd)
	}
	m.fds = nil
}

// readMessage reads a request; io.EOF at the end.
func readMessage(c *net.UnixConn) (*message, error) {
	header := make([]byte, headerLen)
	oob := make([]byte, unix.CmsgSpace(maxFDs*4))
	m := &message{}
	for got := 0; got < headerLen; {
		n, oobn, _, _, err := c.ReadMsgUnix(header[got:], oob)
		if err != nil {
			m.closeFDs()
			return nil, err
		}
		m.fds = append(m.fds, rights(oob[:oobn])...)
		got += n
	}
	m.request = binary.NativeEndian.Uint32(header)
	m.flags = binary.NativeEndian.Uint32(header[4:])
	size := int(binary.NativeEndian.Uint32(header[8:]))
	if size > maxMessage {
		m.closeFDs()
		return nil, fmt.Errorf("request %d has %d bytes", m.request, size)
	}
	m.payload = make([]byte, size)
	for got := 0; got < size; {
		n, oobn, _, _, err := c.ReadMsgUnix(m.payload[got:], oob)
		if err != nil {
			m.closeFDs()
			return nil, err
		}
		m.fds = append(m.fds, rights(oob[:oobn])...)
		got += n
	}
	return m, nil
}

// rights are the descriptors in ancillary data.
func rights(oob []byte) (fds []int) {
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for i := range msgs {
		more, err := unix.ParseUnixRights(&msgs[i])
		if err == nil {
			fds = append(fds, more...)
		}
	}
	for _, fd := range fds {
		unix.CloseOnExec(fd)
	}
	return fds
}

// reply answers m.
func reply(c *net.UnixConn, m *message, payload []byte) error {
	b := binary.NativeEndian.AppendUint32(nil, m.request)
	b = binary.NativeEndian.AppendUint32(b, flagVersion|flagReply)
	b = binary.NativeEndian.AppendUint32(b, uint32(len(payload)))
	_, err := c.Write(append(b, payload...))
	return err
}

func replyUint64(c *net.UnixConn, m *message, v uint64) error {
	return reply(c, m, binary.NativeEndian.AppendUint64(nil, v))
}

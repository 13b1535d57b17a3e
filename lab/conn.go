package lab

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// maxMessage bounds a message, in bytes: a command line and an environment at
// most.
const maxMessage = 8 << 20

// conn carries messages, as lines of JSON, and descriptors with them.
type conn struct {
	*net.UnixConn
	buf []byte // read, not yet a line
	fds []int  // received, not yet taken
}

// connOf makes a conn of a descriptor, which it takes over.
func connOf(fd int) (*conn, error) {
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, err
	}
	u, ok := c.(*net.UnixConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("descriptor %d: %w", fd, unix.ENOTSOCK)
	}
	return &conn{UnixConn: u}, nil
}

// send sends a message with descriptors.
func (c *conn) send(v any, fds ...int) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	b = append(b, '\n')
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	n, _, err := c.WriteMsgUnix(b, oob, nil)
	if err == nil && n < len(b) {
		_, err = c.Write(b[n:])
	}
	return err
}

// receive takes the next message.
func (c *conn) receive(v any) error {
	for {
		if i := bytes.IndexByte(c.buf, '\n'); i >= 0 {
			err := json.Unmarshal(c.buf[:i], v)
			c.buf = c.buf[i+1:]
			return err
		}
		if len(c.buf) > maxMessage {
			return fmt.Errorf("message of more than %d bytes", maxMessage)
		}
		if err := c.fill(); err != nil {
			return err
		}
	}
}

func (c *conn) fill() error {
	b, oob := make([]byte, 16<<10), make([]byte, unix.CmsgSpace(16*4))
	n, m, _, _, err := c.ReadMsgUnix(b, oob)
	if err != nil {
		return err
	}
	c.buf = append(c.buf, b[:n]...)
	msgs, err := unix.ParseSocketControlMessage(oob[:m])
	if err != nil {
		return err
	}
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			continue
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
		}
		c.fds = append(c.fds, fds...)
	}
	return nil
}

// rest is what was read behind the last message.
func (c *conn) rest() []byte { return c.buf }

// takeFD gives the next descriptor that was received.
func (c *conn) takeFD() (int, error) {
	if len(c.fds) == 0 {
		return -1, fmt.Errorf("no descriptor came with the message")
	}
	fd := c.fds[0]
	c.fds = c.fds[1:]
	return fd, nil
}

// Close closes the connection and what came by it.
func (c *conn) Close() error {
	for _, fd := range c.fds {
		_ = unix.Close(fd)
	}
	c.fds = nil
	return c.UnixConn.Close()
}

package proto

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// replyTime is how long rootd may take for one request. It is long because a
// client that asks faster than the policy allows is slowed down, not refused.
const replyTime = 15 * time.Second

// Conn is a client's connection to rootd. Its methods may be called at the
// same time by many; a request waits for its reply only, not for that of
// others.
type Conn struct {
	c    *net.UnixConn
	done chan struct{}

	wmu sync.Mutex // one writer at a time

	mu       sync.Mutex
	seq      uint32
	waiting  map[uint32]chan reply
	err      error // why it ended
	onRevoke func([]Item)
}

type reply struct {
	m    Message
	file *os.File
}

// Dial connects to the rootd that listens at path; "" is [DefaultSocket].
// Where none does the error is that of connect(2): ENOENT, ECONNREFUSED or
// EACCES.
func Dial(ctx context.Context, path string) (*Conn, error) {
	if path == "" {
		path = DefaultSocket
	}
	var d net.Dialer
	nc, err := d.DialContext(ctx, "unixpacket", path)
	if err != nil {
		return nil, fmt.Errorf("connect to rootd: %w", err)
	}
	c := &Conn{c: nc.(*net.UnixConn), done: make(chan struct{}), waiting: map[uint32]chan reply{}}
	go c.read()
	return c, nil
}

// OnRevoke has f called with grants that rootd took back since its policy
// changed. f runs on the goroutine that reads replies, so it must not wait for
// one. Call it before Hello or Resume.
func (c *Conn) OnRevoke(f func([]Item)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onRevoke = f
}

// Done is closed when the connection has ended, by Close or by rootd.
func (c *Conn) Done() <-chan struct{} { return c.done }

// Err says, after Done, why the connection ended: an [*Error] where rootd said
// why, io.EOF where it did not (it is gone), net.ErrClosed after Close.
func (c *Conn) Err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the connection and with it the lease.
func (c *Conn) Close() error {
	err := c.c.Close()
	<-c.done
	if err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close connection to rootd: %w", err)
	}
	return nil
}

// Hello begins a lease; program is the name to be shown to the administrator.
// The Welcome's File is the caller's.
func (c *Conn) Hello(program string) (Welcome, error) {
	return c.welcome("hello", Hello{Program: Name(program)}, true)
}

// Resume takes up the lease of a connection that ended because rootd did. Its
// errors have EACCES where the lease is not known (any more).
func (c *Conn) Resume(lease uint32, token [TokenLen]byte) (Welcome, error) {
	return c.welcome("resume", Resume{Lease: lease, Token: token}, false)
}

func (c *Conn) welcome(op string, m Message, file bool) (Welcome, error) {
	r, err := c.call(op, m)
	if err != nil {
		return Welcome{}, err
	}
	w, ok := r.m.(Welcome)
	if !ok || (r.file != nil) != file {
		closeFile(r.file)
		return Welcome{}, fmt.Errorf("rootd: %s: %w: answered by %T", op, ErrMalformed, r.m)
	}
	w.File = r.file
	return w, nil
}

// Grant asks for all items at once and returns one result for each. More than
// [MaxBatch] go in several requests.
func (c *Conn) Grant(items []Item) ([]Result, error) {
	return c.batches("grant", items, func(part []Item) Message { return Grant{part} })
}

// Release gives items back, as Grant asks for them.
func (c *Conn) Release(items []Item) ([]Result, error) {
	return c.batches("release", items, func(part []Item) Message { return Release{part} })
}

// batches returns the results that came even if a later part failed.
func (c *Conn) batches(op string, items []Item, make func([]Item) Message) ([]Result, error) {
	var all []Result
	for len(items) > 0 {
		part := items[:min(len(items), MaxBatch)]
		items = items[len(part):]
		rs, err := c.results(op, make(part))
		if err == nil && len(rs) != len(part) {
			err = fmt.Errorf("rootd: %s: %w: %d results for %d items", op, ErrMalformed, len(rs), len(part))
		}
		if err != nil {
			return all, err
		}
		all = append(all, rs...)
	}
	return all, nil
}

// Ephemeral gets up to n (at most [MaxBatch]) ports of the host's ephemeral
// range, granted on any address of the families. Where there is none the error
// is an [*Error] with EADDRINUSE, ENOBUFS or EACCES.
func (c *Conn) Ephemeral(proto uint8, families Families, n int) ([]uint16, error) {
	const op = "ephemeral ports"
	if n < 1 {
		return nil, nil
	}
	rs, err := c.results(op, Ephemeral{Proto: proto, Families: families, N: uint16(min(n, MaxBatch))})
	if err != nil {
		return nil, err
	}
	var ports []uint16
	var errno syscall.Errno
	for _, r := range rs {
		if r.Errno != 0 {
			errno = r.Errno
			continue
		}
		ports = append(ports, r.Port)
	}
	if len(ports) == 0 {
		return nil, &Error{Op: op, Errno: errno}
	}
	return ports, nil
}

func (c *Conn) results(op string, m Message) ([]Result, error) {
	r, err := c.call(op, m)
	if err != nil {
		return nil, err
	}
	closeFile(r.file)
	rs, ok := r.m.(Results)
	if !ok {
		return nil, fmt.Errorf("rootd: %s: %w: answered by %T", op, ErrMalformed, r.m)
	}
	return rs.Results, nil
}

// Status returns the state of rootd as JSON.
func (c *Conn) Status() ([]byte, error) {
	const op = "status"
	r, err := c.call(op, Status{})
	if err != nil {
		return nil, err
	}
	defer closeFile(r.file)
	m, ok := r.m.(StatusReply)
	if !ok || r.file == nil {
		return nil, fmt.Errorf("rootd: %s: %w: answered by %T", op, ErrMalformed, r.m)
	}
	text, err := io.ReadAll(io.NewSectionReader(r.file, 0, int64(m.Size)))
	if err != nil {
		return nil, fmt.Errorf("rootd: %s: %w", op, err)
	}
	return text, nil
}

// call sends one request and waits for its reply, but not after the end of the
// connection or longer than replyTime.
func (c *Conn) call(op string, m Message) (reply, error) {
	ch := make(chan reply, 1)
	c.mu.Lock()
	if c.err != nil {
		c.mu.Unlock()
		return reply{}, c.ended(op)
	}
	c.seq++
	if c.seq == 0 {
		c.seq = 1
	}
	seq := c.seq
	c.waiting[seq] = ch
	c.mu.Unlock()
	defer c.forget(seq, ch)

	if err := c.send(seq, m); err != nil {
		return reply{}, fmt.Errorf("rootd: %s: %w", op, err)
	}
	timer := time.NewTimer(replyTime)
	defer timer.Stop()
	select {
	case r := <-ch:
		if f, ok := r.m.(Failure); ok {
			closeFile(r.file)
			return reply{}, &Error{Op: op, Errno: f.Errno, Text: f.Text}
		}
		return r, nil
	case <-c.done:
		return reply{}, c.ended(op)
	case <-timer.C:
		return reply{}, fmt.Errorf("rootd: %s: no answer: %w", op, os.ErrDeadlineExceeded)
	}
}

func (c *Conn) ended(op string) error {
	return fmt.Errorf("rootd: %s: connection ended: %w", op, c.Err())
}

// forget drops the wait for seq, and a reply that came too late with its file.
func (c *Conn) forget(seq uint32, ch chan reply) {
	c.mu.Lock()
	delete(c.waiting, seq)
	c.mu.Unlock()
	select {
	case r := <-ch:
		closeFile(r.file)
	default:
	}
}

func (c *Conn) send(seq uint32, m Message) error {
	b, err := Append(nil, seq, m)
	if err != nil {
		return err
	}
	c.wmu.Lock()
	defer c.wmu.Unlock()
	if err := c.c.SetWriteDeadline(time.Now().Add(replyTime)); err != nil {
		return err
	}
	_, err = c.c.Write(b)
	return err
}

// read hands each reply to the one who waits for it, until the connection
// ends.
func (c *Conn) read() {
	buf := make([]byte, MaxMessage+1)
	var err error
	for err == nil {
		err = c.readOne(buf)
	}
	_ = c.c.Close()
	c.mu.Lock()
	c.err = err
	c.mu.Unlock()
	close(c.done)
}

func (c *Conn) readOne(buf []byte) error {
	oob := make([]byte, unix.CmsgSpace(4*4))
	n, oobn, flags, _, err := c.c.ReadMsgUnix(buf, oob)
	if err != nil {
		return err
	}
	if n == 0 && oobn == 0 {
		return io.EOF
	}
	file, err := rights(oob[:oobn])
	if err != nil {
		return err
	}
	if flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		closeFile(file)
		return fmt.Errorf("%w: it is cut", ErrMalformed)
	}
	seq, m, err := Decode(buf[:n])
	if err != nil {
		closeFile(file)
		return err
	}
	c.mu.Lock()
	ch, f := c.waiting[seq], c.onRevoke
	delete(c.waiting, seq)
	if ch != nil {
		ch <- reply{m, file} // has room, and is sent to once; under mu so that forget finds it
	}
	c.mu.Unlock()
	if ch != nil {
		return nil
	}
	closeFile(file)
	if seq != 0 {
		return nil // late: nobody waits for it any more
	}
	switch m := m.(type) {
	case Failure:
		return &Error{Op: "connection", Errno: m.Errno, Text: m.Text}
	case Revoked:
		if f != nil {
			f(m.Items)
		}
	}
	return nil
}

// rights takes the one file, if any, from a control message.
func rights(oob []byte) (*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	msgs, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	var file *os.File
	for i := range msgs {
		fds, err := unix.ParseUnixRights(&msgs[i])
		if err != nil {
			continue // credentials, say
		}
		for _, fd := range fds {
			if file != nil {
				_ = unix.Close(fd)
				continue
			}
			// Not blocking, so that the file gets the poller.
			_ = unix.SetNonblock(fd, true)
			file = os.NewFile(uintptr(fd), "rootd")
		}
	}
	return file, nil
}

func closeFile(f *os.File) {
	if f != nil {
		_ = f.Close()
	}
}

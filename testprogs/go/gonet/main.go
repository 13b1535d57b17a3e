// Gonet uses Go's net package the way programs do: deadlines, half-close,
// reset, UDP of both kinds, ReadFrom and WriteTo by splice and sendfile,
// passing a connection's file, and the errors that net gives names to.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

func check(what string, err error) {
	if err != nil {
		fmt.Printf("%s: %v\n", what, err)
		os.Exit(1)
	}
}

// name is the errno of an error, or what kind of error it is.
func name(err error) string {
	var e syscall.Errno
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &e):
		return e.Error()
	case errors.Is(err, os.ErrDeadlineExceeded):
		return "deadline"
	case errors.Is(err, net.ErrClosed):
		return "closed"
	case errors.Is(err, io.EOF):
		return "EOF"
	}
	return err.Error()
}

func pair(network, address string) (client, server *net.TCPConn) {
	l, err := net.Listen(network, address)
	check("listen", err)
	defer l.Close()
	c, err := net.Dial(network, l.Addr().String())
	check("dial", err)
	s, err := l.Accept()
	check("accept", err)
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

func tcp(network, address string) {
	fmt.Println("--", network)
	c, s := pair(network, address)
	b := make([]byte, 64)
	check("deadline", s.SetReadDeadline(time.Now().Add(30*time.Millisecond)))
	_, err := s.Read(b)
	fmt.Println("read past its deadline:", name(err))
	check("deadline", s.SetReadDeadline(time.Time{}))
	_, err = c.Write([]byte("question"))
	check("write", err)
	check("close write", c.CloseWrite())
	all, err := io.ReadAll(s)
	fmt.Printf("read all: %s, %s\n", all, name(err))
	_, err = s.Write([]byte("answer"))
	check("write", err)
	n, err := c.Read(b)
	fmt.Printf("answer: %s, %s\n", b[:n], name(err))
	check("close", s.Close())
	_, err = c.Read(b)
	fmt.Println("after close:", name(err))
	_, err = s.Read(b)
	fmt.Println("own closed:", name(err))

	c, s = pair(network, address)
	check("linger", s.SetLinger(0))
	check("close", s.Close())
	_, err = c.Read(b)
	fmt.Println("reset:", name(err))
	c.Close()

	c, s = pair(network, address)
	go func() { time.Sleep(30 * time.Millisecond); c.Close() }()
	_, err = c.Read(b)
	fmt.Println("closed while reading:", name(err))
	s.Close()
	c, s = pair(network, address)
	fmt.Println("options:", name(c.SetNoDelay(false)), name(c.SetKeepAlive(true)), name(c.SetKeepAlivePeriod(time.Minute)), name(c.SetReadBuffer(8192)), name(c.SetWriteBuffer(8192)))
	f, err := c.File()
	check("file", err)
	c.Close()
	again, err := net.FileConn(f)
	check("conn of file", err)
	f.Close()
	_, err = again.Write([]byte("by its file"))
	check("write", err)
	n, err = s.Read(b)
	fmt.Printf("%s, %s\n", b[:n], name(err))
}

func errorsOf() {
	fmt.Println("-- errors")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check("listen", err)
	at := l.Addr().String()
	_, err = net.Listen("tcp", at)
	fmt.Println("listen twice:", name(err))
	check("deadline", l.(*net.TCPListener).SetDeadline(time.Now().Add(20*time.Millisecond)))
	_, err = l.Accept()
	fmt.Println("accept past its deadline:", name(err))
	check("close", l.Close())
	_, err = l.Accept()
	fmt.Println("accept when closed:", name(err))
	_, err = net.Dial("tcp", at)
	fmt.Println("dial:", name(err))
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	_, err = (&net.Dialer{}).DialContext(ctx, "tcp", at)
	fmt.Println("dial cancelled:", err != nil)
	_, err = net.Dial("tcp", "192.0.2.1:80")
	fmt.Println("dial without a route:", name(err))
}

func udp(network, address string) {
	fmt.Println("--", network)
	a, err := net.ResolveUDPAddr(network, address)
	check("resolve", err)
	u, err := net.ListenUDP(network, a)
	check("listen", err)
	c, err := net.DialUDP(network, nil, u.LocalAddr().(*net.UDPAddr))
	check("dial", err)
	b := make([]byte, 64)
	_, err = c.Write([]byte("ping"))
	check("write", err)
	n, from, err := u.ReadFromUDPAddrPort(b)
	fmt.Printf("%s from the client %v, %s\n", b[:n], from.Port() == uint16(c.LocalAddr().(*net.UDPAddr).Port), name(err))
	_, err = u.WriteToUDPAddrPort([]byte("pong"), from)
	check("write to", err)
	n, err = c.Read(b)
	fmt.Printf("%s, %s\n", b[:n], name(err))
	n, oob, err := c.WriteMsgUDP([]byte("message"), nil, nil)
	fmt.Println("message:", n, oob, name(err))
	n, _, flags, _, err := u.ReadMsgUDP(b[:4], nil)
	fmt.Println("truncated:", n, flags&syscall.MSG_TRUNC != 0, name(err))
	check("deadline", u.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
	_, _, err = u.ReadFrom(b)
	fmt.Println("deadline:", name(err))
	check("close", u.Close())
	time.Sleep(20 * time.Millisecond) // a stack may hear of it a moment later
	_, err = c.Write([]byte("lost"))
	check("write", err)
	check("deadline", c.SetReadDeadline(time.Now().Add(2*time.Second)))
	_, err = c.Read(b)
	fmt.Println("refused:", name(err))
}

// proxy copies between two connections: splice, and sendfile from a file.
func proxy() {
	fmt.Println("-- copies in the kernel")
	c1, s1 := pair("tcp", "127.0.0.1:0")
	c2, s2 := pair("tcp", "127.0.0.1:0")
	go func() {
		_, _ = io.Copy(c2, s1)
		_ = c2.CloseWrite()
	}()
	go func() {
		for range 64 {
			_, _ = c1.Write(make([]byte, 16384))
		}
		_ = c1.CloseWrite()
	}()
	n, err := io.Copy(io.Discard, s2)
	fmt.Println("spliced:", n, name(err))
	f, err := os.CreateTemp("", "gonet")
	check("file", err)
	check("remove", os.Remove(f.Name()))
	_, err = f.Write(make([]byte, 300000))
	check("write", err)
	_, err = f.Seek(0, io.SeekStart)
	check("seek", err)
	go func() {
		_, _ = io.Copy(s2, f)
		_ = s2.CloseWrite()
	}()
	n, err = io.Copy(io.Discard, c2)
	fmt.Println("sent from a file:", n, name(err))
}

func main() {
	time.AfterFunc(25*time.Second, func() { fmt.Println("too slow"); os.Exit(9) })
	tcp("tcp4", "127.0.0.1:0")
	tcp("tcp6", "[::1]:0")
	tcp("tcp", ":0")
	errorsOf()
	udp("udp4", "127.0.0.1:0")
	udp("udp6", "[::1]:0")
	proxy()
	ifs, err := net.Interfaces()
	check("interfaces", err)
	fmt.Println("first interface:", ifs[0].Name)
}

package fdtable

import (
	"testing"

	"golang.org/x/sys/unix"
)

// Whatever is taken natively, a trapped receive knows its datagram's origin.
func TestMessagesOriginAfterNativeReceives(t *testing.T) {
	m, d, err := NewMessages()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	defer unix.Close(d)
	lens := []int{0, 1, 100, 1400, 9, 5000, 0, 65507, 64}
	for i, n := range lens {
		if err := m.Push(make([]byte, n), Origin{Source: i}); err != nil {
			t.Fatalf("push %d: %v", i, err)
		}
	}
	buf := make([]byte, 1<<16)
	for i := 0; i < len(lens); {
		if i%3 != 0 { // natively
			if n, err := unix.Read(d, buf); err != nil || n != lens[i] {
				t.Fatalf("read %d: %d, %v", i, n, err)
			}
			i++
			continue
		}
		n, o, err := m.Take(d, buf, 0)
		if err != nil || n != lens[i] || o.Source != i {
			t.Fatalf("take %d: %d bytes from %v, %v", i, n, o.Source, err)
		}
		i++
	}
	if _, _, err := m.Take(d, buf, 0); err != unix.EAGAIN {
		t.Fatalf("empty: %v", err)
	}
}

func TestMessagesFailAndGoOn(t *testing.T) {
	m, d, err := NewMessages()
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	defer unix.Close(d)
	if _, err := unix.Write(d, []byte("x")); err != unix.EPIPE {
		t.Fatalf("write unconnected: %v", err)
	}
	for i := range 30 { // more than net.unix.max_dgram_qlen
		if err := m.Push([]byte{byte(i)}, Origin{Source: i}); err != nil {
			t.Fatal(err)
		}
	}
	if replaced, err := m.Connect(d); err != nil || !replaced {
		t.Fatalf("connect: %v, %v", replaced, err)
	}
	for i := range 30 { // they were kept
		if n, o, err := m.Take(d, make([]byte, 9), 0); n != 1 || o.Source != i || err != nil {
			t.Fatalf("take %d after connect: %d bytes of %v, %v", i, n, o.Source, err)
		}
	}
	if replaced, err := m.Fail(d); err != nil || replaced {
		t.Fatalf("fail: %v, %v", replaced, err)
	}
	p := []unix.PollFd{{Fd: int32(d), Events: unix.POLLIN}}
	unix.Poll(p, 0)
	if p[0].Revents&unix.POLLERR == 0 {
		t.Fatalf("poll after Fail: %#x", p[0].Revents)
	}
	if _, err := unix.Read(d, make([]byte, 1)); err != unix.ECONNRESET {
		t.Fatalf("read after Fail: %v", err)
	}
	if _, err := unix.Write(d, []byte("abc")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 8)
	if n, err := unix.Read(m.End(), b); n != 3 || err != nil {
		t.Fatalf("end read: %d %v", n, err)
	}
	if err := m.Push([]byte("back"), Origin{}); err != nil {
		t.Fatal(err)
	}
	if n, err := unix.Read(d, b); n != 4 || err != nil {
		t.Fatalf("program read: %d %v", n, err)
	}
}

func TestWatchLastClose(t *testing.T) {
	w, err := NewWatch()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	fd, _ := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	dup, _ := unix.Dup(fd)
	closed := make(chan struct{})
	if err := w.Add(fd, func() { close(closed) }); err != nil {
		t.Fatal(err)
	}
	unix.Close(fd)
	select {
	case <-closed:
		t.Fatal("closed with a duplicate open")
	default:
	}
	unix.Close(dup)
	<-closed
}

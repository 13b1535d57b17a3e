package proto

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// peer answers each request with what answer says; nil ends the connection.
func peer(t *testing.T, answer func(seq uint32, m Message) ([]byte, *os.File)) *Conn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unixpacket", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		defer func() { _ = nc.Close() }()
		buf := make([]byte, MaxMessage)
		for {
			n, err := nc.Read(buf)
			if err != nil {
				return
			}
			seq, m, err := Decode(buf[:n])
			if err != nil {
				t.Errorf("client sent %x: %v", buf[:n], err)
				return
			}
			b, file := answer(seq, m)
			if b == nil {
				return
			}
			var oob []byte
			if file != nil {
				oob = unix.UnixRights(int(file.Fd()))
			}
			if _, _, err := nc.(*net.UnixConn).WriteMsgUnix(b, oob, nil); err != nil {
				return
			}
			closeFile(file)
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := Dial(ctx, path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func mustAppend(t *testing.T, seq uint32, m Message) []byte {
	b, err := Append(nil, seq, m)
	if err != nil {
		t.Error(err)
	}
	return b
}

func TestConn(t *testing.T) {
	c := peer(t, func(seq uint32, m Message) ([]byte, *os.File) {
		switch m := m.(type) {
		case Hello:
			f, _ := os.Open("/dev/zero")
			return mustAppend(t, seq, Welcome{Lease: 3, Device: "alp3"}), f
		case Grant:
			rs := make([]Result, len(m.Items))
			for i, it := range m.Items {
				rs[i].Port = it.Port
			}
			return mustAppend(t, seq, Results{rs}), nil
		default:
			return mustAppend(t, seq, Failure{syscall.EACCES, "no"}), nil
		}
	})
	w, err := c.Hello("test")
	if err != nil || w.File == nil || w.Device != "alp3" {
		t.Fatalf("%+v, %v", w, err)
	}
	if n, err := w.File.Read(make([]byte, 1)); n != 1 || err != nil {
		t.Error(n, err)
	}
	_ = w.File.Close()
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			items := make([]Item, MaxBatch*(i%3)+1)
			for j := range items {
				items[j] = Item{Addr: netip.IPv4Unspecified(), Port: uint16(i + j)}
			}
			rs, err := c.Grant(items)
			if err != nil || len(rs) != len(items) {
				t.Errorf("%d results for %d items, %v", len(rs), len(items), err)
				return
			}
			for j, r := range rs {
				if r.Port != items[j].Port {
					t.Errorf("result %d of %d is %+v", j, i, r)
				}
			}
		})
	}
	wg.Wait()
	var pe *Error
	if _, err := c.Status(); !errors.Is(err, syscall.EACCES) || !errors.As(err, &pe) || pe.Text != "no" {
		t.Error(err)
	}
	_ = c.Close()
	if _, err := c.Status(); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

func TestConnEnds(t *testing.T) {
	for name, answer := range map[string]func(uint32) []byte{
		"closed": func(uint32) []byte { return nil },
		"junk":   func(uint32) []byte { return []byte("junk") },
		"cut":    func(uint32) []byte { return make([]byte, MaxMessage+2) },
	} {
		t.Run(name, func(t *testing.T) {
			c := peer(t, func(seq uint32, _ Message) ([]byte, *os.File) { return answer(seq), nil })
			_, err := c.Status()
			if err == nil || (name == "closed") != errors.Is(err, io.EOF) {
				t.Error(err)
			}
			select {
			case <-c.Done():
			case <-time.After(5 * time.Second):
				t.Fatal("not done")
			}
		})
	}
}

func TestRevoked(t *testing.T) {
	c := peer(t, func(seq uint32, m Message) ([]byte, *os.File) {
		return mustAppend(t, 0, Revoked{[]Item{{Proto: TCP, Addr: netip.IPv4Unspecified(), Port: 80}}}), nil
	})
	got := make(chan []Item, 1)
	c.OnRevoke(func(items []Item) { got <- items; go func() { _ = c.Close() }() })
	_, _ = c.Status() // ended by the Close above
	select {
	case items := <-got:
		if len(items) != 1 || items[0].Port != 80 {
			t.Error(items)
		}
	case <-time.After(5 * time.Second):
		t.Fatal("not told")
	}
}

package spool

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// sink is a file in memory.
type sink struct {
	mu sync.Mutex
	b  bytes.Buffer
	n  int // writes
}

func (s *sink) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n++
	return s.b.Write(b)
}

func (s *sink) state() (size, writes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.Len(), s.n
}

// put appends a record of n bytes, and says how many were lost before it.
func put(s *Spool, n int) (lost uint64, ok bool) {
	b, lost, ok := s.Begin()
	if ok {
		s.End(append(b, make([]byte, n)...))
	}
	return lost, ok
}

func TestFile(t *testing.T) {
	for _, limit := range []int{0, 1 << 20} {
		var f sink
		s := New(&f, Options{Size: 1000, Delay: 20 * time.Millisecond, Limit: limit})
		put(s, 10)
		if size, _ := f.state(); size != 0 {
			t.Error("not gathered")
		}
		for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
			if size, _ := f.state(); size == 10 {
				break
			}
			if time.Now().After(end) {
				t.Fatal("not written in time")
			}
		}
		for range 100 {
			put(s, 100)
		}
		if err := errors.Join(s.Close(), s.Close()); err != nil {
			t.Fatal(err)
		}
		if size, n := f.state(); size != 10010 || n > 15 {
			t.Errorf("limit %d: %d bytes in %d writes", limit, size, n)
		}
		if _, ok := put(s, 1); ok || s.Lost() != 0 {
			t.Errorf("closed: %v, %d lost", ok, s.Lost())
		}
	}
}

var errFull = errors.New("full")

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errFull }

func TestFails(t *testing.T) {
	for _, limit := range []int{0, 1 << 20} {
		failed := make(chan error, 2)
		s := New(broken{}, Options{Size: 10, Limit: limit, Failed: func(err error) { failed <- err }})
		put(s, 100)
		if err := <-failed; err != errFull {
			t.Error(err)
		}
		for s.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		if _, ok := put(s, 100); ok || s.Lost() != 1 {
			t.Errorf("limit %d: %v, %d lost", limit, ok, s.Lost())
		}
		if err := s.Close(); err != errFull {
			t.Error(err)
		}
	}
}

// TestSlow: a reader that does not read costs records, not time.
func TestSlow(t *testing.T) {
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	r, w := os.NewFile(uintptr(p[0]), "r"), os.NewFile(uintptr(p[1]), "w")
	defer r.Close()
	defer w.Close()
	s := New(w, Options{Size: 4096, Delay: time.Millisecond, Limit: 1 << 20})
	taken, begin := 0, time.Now()
	for range 4000 {
		if _, ok := put(s, 1000); ok {
			taken++
		}
	}
	if d := time.Since(begin); d > time.Second {
		t.Errorf("took %s", d)
	}
	if taken < 1000 || taken > 3000 || s.Lost() != uint64(4000-taken) {
		t.Errorf("%d taken, %d lost", taken, s.Lost())
	}
	// When it reads again, the next record tells what was lost.
	for end := time.Now().Add(5 * time.Second); ; {
		_, _ = io.ReadFull(r, make([]byte, 100000))
		lost, ok := put(s, 1000)
		if ok && lost >= uint64(4000-taken) {
			break
		}
		if time.Now().After(end) {
			t.Fatal("never taken again")
		}
	}
	begin = time.Now()
	if err := s.Close(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("close: %v", err)
	}
	if d := time.Since(begin); d > 3*patience {
		t.Errorf("close took %s", d)
	}
}

func TestGone(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	r.Close()
	s := New(w, Options{Size: 10, Limit: 1 << 20})
	put(s, 100)
	if err := s.Close(); !errors.Is(err, unix.EPIPE) {
		t.Errorf("%v", err)
	}
}

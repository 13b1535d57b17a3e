// Package spool is memory in front of a file or pipe. What is recorded while
// packets pass must cost them next to nothing: records are gathered in memory
// and written many at once.
package spool

import (
	"io"
	"os"
	"sync"
	"time"
)

// Options of a Spool.
type Options struct {
	// Delay is how long a record may stay in memory; 0 is until Size.
	Delay time.Duration
	// Size is how many bytes may gather before they are written at once.
	Size int
	// Limit, if not 0, is for a writer that may block, a pipe: a goroutine
	// writes to it, and records that find Limit bytes waiting are lost.
	// Otherwise whoever records also writes.
	Limit int
	// Failed is called with the error that ends the writing; nil is nothing.
	Failed func(error)
}

// patience is how long Close waits for a writer that takes nothing.
const patience = 2 * time.Second

// chunk is how many bytes a writer that may block gets at once.
const chunk = 64 << 10

// Spool gathers records. It is safe for concurrent use.
type Spool struct {
	w    io.Writer
	opts Options

	mu     sync.Mutex
	buf    []byte
	lost   uint64 // since the last record that was taken
	total  uint64 // lost
	err    error  // of the first failed write; nothing is written after it
	closed bool
	timer  *time.Timer
	armed  bool

	// Of a writer that may block.
	wake  chan struct{}
	done  chan struct{}
	spare []byte // memory that is not buf
	moved int    // chunks written
}

// New makes a spool in front of w, which gets whole records in each Write
// unless there is a limit. w is the caller's to close, after the Spool.
func New(w io.Writer, o Options) *Spool {
	s := &Spool{w: w, opts: o}
	if o.Limit > 0 {
		s.wake, s.done = make(chan struct{}, 1), make(chan struct{})
		go s.run()
	}
	if o.Delay > 0 {
		s.timer = time.AfterFunc(time.Hour, s.expire)
		s.timer.Stop()
	}
	return s
}

// Begin gives the memory to append a record to, for End, which must follow at
// once. lost is how many records were lost just before it. ok is false where
// the record is lost, or the spool closed; then there is no End.
func (s *Spool) Begin() (b []byte, lost uint64, ok bool) {
	s.mu.Lock()
	if s.closed || s.err != nil || s.opts.Limit > 0 && len(s.buf) >= s.opts.Limit {
		if !s.closed {
			s.lost++
			s.total++
		}
		s.mu.Unlock()
		return nil, 0, false
	}
	lost, s.lost = s.lost, 0
	return s.buf, lost, true
}

// End takes what Begin gave, with the record.
func (s *Spool) End(b []byte) {
	s.buf = b
	switch {
	case len(b) >= s.opts.Size && s.wake == nil:
		s.flush()
	case len(b) >= s.opts.Size:
		s.kick()
	case s.timer != nil && !s.armed:
		s.armed = true
		s.timer.Reset(s.opts.Delay)
	}
	s.mu.Unlock()
}

// Lost is how many records were lost.
func (s *Spool) Lost() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.total
}

// Err is the error of the first failed write.
func (s *Spool) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// expire is the timer's: a record has waited for long enough.
func (s *Spool) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.armed = false
	if s.wake != nil {
		s.kick()
	} else {
		s.flush()
	}
}

func (s *Spool) kick() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// flush writes out what is in memory; s.mu is held.
func (s *Spool) flush() {
	if len(s.buf) > 0 && s.err == nil {
		if _, err := s.w.Write(s.buf); err != nil {
			s.fail(err)
		}
	}
	s.buf = s.buf[:0]
}

// fail ends the writing; s.mu is held.
func (s *Spool) fail(err error) {
	s.err, s.buf = err, nil
	if s.opts.Failed != nil {
		s.opts.Failed(err)
	}
}

// run writes to a writer that may block.
func (s *Spool) run() {
	defer close(s.done)
	for range s.wake {
		s.mu.Lock()
		b, closed := s.buf, s.closed
		s.buf, s.spare = s.spare[:0], nil
		s.mu.Unlock()
		err := s.write(b)
		s.mu.Lock()
		s.spare = b
		if err != nil {
			s.fail(err)
		}
		more := len(s.buf) >= s.opts.Size || s.closed && !closed
		s.mu.Unlock()
		if err != nil || closed {
			return
		}
		if more {
			s.kick()
		}
	}
}

func (s *Spool) write(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), chunk)
		if _, err := s.w.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
		s.mu.Lock()
		s.moved++
		s.mu.Unlock()
	}
	return nil
}

// Close writes out what is in memory, as long as the writer takes it. The error
// is that of the first failed write.
func (s *Spool) Close() error {
	s.mu.Lock()
	if !s.closed {
		s.closed = true
		if s.timer != nil {
			s.timer.Stop()
		}
		if s.wake == nil {
			s.flush()
		} else {
			s.kick()
		}
	}
	s.mu.Unlock()
	if s.done != nil {
		s.wait()
	}
	return s.Err()
}

// wait waits for run, unless its writer takes nothing.
func (s *Spool) wait() {
	s.mu.Lock()
	moved := s.moved
	s.mu.Unlock()
	for {
		select {
		case <-s.done:
			return
		case <-time.After(patience):
		}
		s.mu.Lock()
		stuck := s.moved == moved
		moved = s.moved
		s.mu.Unlock()
		if !stuck {
			continue
		}
		if d, ok := s.w.(interface{ SetWriteDeadline(time.Time) error }); ok && d.SetWriteDeadline(time.Now()) == nil {
			<-s.done
			return
		}
		s.mu.Lock()
		s.fail(os.ErrDeadlineExceeded)
		s.mu.Unlock()
		return
	}
}

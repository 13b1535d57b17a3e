package lab

import (
	"io"
	"sync"
)

// slackSize is how far a reader may be behind, in bytes.
const slackSize = 64 << 20

// slack is a writer that never waits: what a slow reader has no room for is left
// out, by whole writes.
type slack struct {
	mu     sync.Mutex
	cond   sync.Cond
	queue  [][]byte
	size   int
	closed bool
	err    error
	done   chan struct{}
}

func newSlack(w io.Writer) *slack {
	s := &slack{done: make(chan struct{})}
	s.cond.L = &s.mu
	go s.run(w)
	return s
}

func (s *slack) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return 0, s.err
	}
	if s.size+len(b) <= slackSize {
		s.queue = append(s.queue, append([]byte(nil), b...))
		s.size += len(b)
		s.cond.Signal()
	}
	return len(b), nil
}

func (s *slack) run(w io.Writer) {
	defer close(s.done)
	for {
		s.mu.Lock()
		for len(s.queue) == 0 && !s.closed {
			s.cond.Wait()
		}
		if len(s.queue) == 0 {
			s.mu.Unlock()
			return
		}
		b := s.queue[0]
		s.queue = s.queue[1:]
		s.size -= len(b)
		s.mu.Unlock()
		if _, err := w.Write(b); err != nil {
			s.mu.Lock()
			s.err, s.queue, s.size = err, nil, 0
			s.mu.Unlock()
		}
	}
}

// close waits until what was taken is written.
func (s *slack) close() {
	s.mu.Lock()
	s.closed = true
	s.cond.Signal()
	s.mu.Unlock()
	<-s.done
}

package lab

import (
	"io"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/capture"
	"github.com/alptrace/alptrace/observe/owner"
)

// tap is a link around a link to which captures can be attached at any time.
type tap struct {
	link.Link
	log   *slog.Logger
	owner *owner.Registry // of the packets; nil for a router's
	sinks atomic.Pointer[[]*sink]
	mu    sync.Mutex // of those who change sinks
}

// sink is a capture of a link that has no packets but those that it is shown.
type sink struct {
	capture link.Link
	link    *shown
}

// shown is the link that a sink captures.
type shown struct {
	link.Link
	recv func([]link.Packet)
}

func (s *shown) Send(pkts []link.Packet) (int, error)      { return len(pkts), nil }
func (s *shown) Start(recv func(pkts []link.Packet)) error { s.recv = recv; return nil }
func (s *shown) Close() error                              { return nil }

// Unwrap is the link underneath.
func (t *tap) Unwrap() link.Link { return t.Link }

// attach begins a capture into w, with a comment; detach ends it.
func (t *tap) attach(w io.Writer, comment, description string) (detach func() error, err error) {
	s := &sink{link: &shown{Link: t.Link}}
	s.capture, err = capture.Wrap(s.link, w, capture.Options{Comment: comment, Description: description, Owners: t.owner, Logger: t.log})
	if err != nil {
		return nil, err
	}
	if err := s.capture.Start(func([]link.Packet) {}); err != nil {
		return nil, err
	}
	t.change(func(l []*sink) []*sink { return append(l, s) })
	return sync.OnceValue(func() error {
		t.change(func(l []*sink) []*sink { return slices.DeleteFunc(l, func(x *sink) bool { return x == s }) })
		return s.capture.Close()
	}), nil
}

func (t *tap) change(f func([]*sink) []*sink) {
	t.mu.Lock()
	defer t.mu.Unlock()
	l := f(slices.Clone(*t.sinks.Load()))
	t.sinks.Store(&l)
}

// Send shows the packets and sends them.
func (t *tap) Send(pkts []link.Packet) (int, error) {
	for _, s := range *t.sinks.Load() {
		_, _ = s.capture.Send(pkts) // it only writes them down
	}
	return t.Link.Send(pkts)
}

// Start begins delivery; packets are shown before recv sees them.
func (t *tap) Start(recv func(pkts []link.Packet)) error {
	return t.Link.Start(func(pkts []link.Packet) {
		for _, s := range *t.sinks.Load() {
			s.link.recv(pkts)
		}
		recv(pkts)
	})
}

func newTap(l link.Link, o *owner.Registry, log *slog.Logger) *tap {
	t := &tap{Link: l, owner: o, log: log}
	t.sinks.Store(new([]*sink))
	return t
}

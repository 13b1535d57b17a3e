package ui

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"
)

// Bounds of what pages take.
const (
	maxPages   = 16
	pageQueue  = 20              // frames that a page may be behind
	writeLimit = 5 * time.Second // for one write
)

// pages are those that are open.
type pages struct {
	mu   sync.Mutex
	open map[*page]struct{}
	over bool // the run is
}

// page is one that is open.
type page struct {
	frames chan []byte
	fresh  bool // it has not been told the whole state yet
}

// count is how many are open.
func (p *pages) count() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.open)
}

// join opens a page: nil if there are too many, or the run is over.
func (p *pages) join() *page {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over || len(p.open) >= maxPages {
		return nil
	}
	if p.open == nil {
		p.open = map[*page]struct{}{}
	}
	g := &page{frames: make(chan []byte, pageQueue), fresh: true}
	p.open[g] = struct{}{}
	return g
}

func (p *pages) leave(g *page) {
	p.mu.Lock()
	delete(p.open, g)
	p.mu.Unlock()
}

// restart tells every page the whole state at the next tick.
func (p *pages) restart() {
	p.mu.Lock()
	for g := range p.open {
		g.fresh = true
	}
	p.mu.Unlock()
}

// send gives every page the frame, or the whole state if it is new. One that is
// too far behind is cut off.
func (p *pages) send(f *frame, whole func() any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var frame, hello []byte
	for g := range p.open {
		b := &frame
		if g.fresh {
			b = &hello
		}
		if *b == nil {
			if g.fresh {
				*b = event("hello", whole())
			} else {
				*b = event("tick", f)
			}
		}
		g.fresh = false
		select {
		case g.frames <- *b:
		default:
			close(g.frames)
			delete(p.open, g)
		}
	}
	if f.End != "" {
		p.over = true
		for g := range p.open {
			close(g.frames)
		}
	}
}

// drain waits until the pages have received everything, or ctx is done. No page
// is given more.
func (p *pages) drain(ctx context.Context) {
	for p.count() > 0 && ctx.Err() == nil {
		time.Sleep(5 * time.Millisecond)
	}
}

// event is v as a server-sent event (HTML Living Standard, 9.2).
func event(name string, v any) []byte {
	var b bytes.Buffer
	b.WriteString("event: " + name + "\ndata: ")
	if err := json.NewEncoder(&b).Encode(v); err != nil { // never: no NaN, no cycles
		return []byte(": " + err.Error() + "\n\n")
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// events streams the state to a page.
func (s *Server) events(w http.ResponseWriter, r *http.Request) {
	g := s.pages.join()
	if g == nil {
		http.Error(w, "too many pages", http.StatusServiceUnavailable)
		return
	}
	defer s.pages.leave(g)
	w.Header().Set("Content-Type", "text/event-stream")
	c := http.NewResponseController(w)
	for {
		select {
		case b, ok := <-g.frames:
			if !ok {
				return
			}
			_ = c.SetWriteDeadline(time.Now().Add(writeLimit))
			if _, err := w.Write(b); err != nil || c.Flush() != nil {
				return
			}
		case <-r.Context().Done():
			return
		}
	}
}

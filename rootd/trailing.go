package rootd

import (
	"log/slog"
	"sync"
)

// Trailing is a [Guard] that follows another in the background: a transaction
// of nftables takes milliseconds, whatever is in it, and nobody should wait for
// it. As long as the datapath's programs are in place the guard has nothing to
// do, so it may be a little behind. What gathers during one transaction is the
// next.
type Trailing struct {
	to  Guard
	log *slog.Logger

	mu   sync.Mutex
	todo map[Grant]bool // added, or removed
	work sync.Cond
	end  bool
	done chan struct{}
}

// NewTrailing follows to until Close. What to refuses is logged.
func NewTrailing(to Guard, log *slog.Logger) *Trailing {
	t := &Trailing{to: to, log: log, todo: make(map[Grant]bool), done: make(chan struct{})}
	t.work.L = &t.mu
	go t.run()
	return t
}

// Add returns at once, and nil.
func (t *Trailing) Add(gs []Grant) error { return t.want(gs, true) }

// Remove returns at once, and nil.
func (t *Trailing) Remove(gs []Grant) error { return t.want(gs, false) }

func (t *Trailing) want(gs []Grant, have bool) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, g := range gs {
		t.todo[g] = have
	}
	t.work.Signal()
	return nil
}

// Grants are those of the guard that it follows; it is for the start, before
// anything is added.
func (t *Trailing) Grants() []Grant { return t.to.Grants() }

// Close returns when the guard is up to date.
func (t *Trailing) Close() {
	t.mu.Lock()
	t.end = true
	t.work.Signal()
	t.mu.Unlock()
	<-t.done
}

func (t *Trailing) run() {
	defer close(t.done)
	for {
		t.mu.Lock()
		for len(t.todo) == 0 && !t.end {
			t.work.Wait()
		}
		todo := t.todo
		t.todo = make(map[Grant]bool)
		t.mu.Unlock()
		if len(todo) == 0 {
			return
		}
		var add, remove []Grant
		for g, have := range todo {
			if have {
				add = append(add, g)
			} else {
				remove = append(remove, g)
			}
		}
		if len(add) > 0 {
			if err := t.to.Add(add); err != nil {
				t.log.Error("guard", "grants", len(add), "err", err)
			}
		}
		if len(remove) > 0 {
			if err := t.to.Remove(remove); err != nil {
				t.log.Error("guard", "grants", len(remove), "err", err)
			}
		}
	}
}

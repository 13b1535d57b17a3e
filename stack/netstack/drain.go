package netstack

import (
	"context"
	"time"

	"gvisor.dev/gvisor/pkg/tcpip"
	"gvisor.dev/gvisor/pkg/tcpip/transport/tcp"
)

// finWait is how long an engine that shares a host's addresses waits for the
// FINs that its peers owe. They follow at once, or the peer has more to say to
// nobody. In the kernel such a connection outlives its program; here nobody
// acknowledges the peer's FIN when the engine is gone, and the peer would send
// it again and again.
const finWait = 250 * time.Millisecond

// Drain waits until no connection has data or a FIN that is not acknowledged,
// and no packet waits for a neighbour's hardware address.
func (e *Engine) Drain(ctx context.Context) {
	wait := time.Millisecond
	var half tcpip.MonotonicTime // since when there is nothing but connections in FIN_WAIT2
	for ctx.Err() == nil && !e.closed.Load() {
		own, peers := e.unfinished()
		switch {
		case own || e.orphans.any() || e.resolving():
			half = tcpip.MonotonicTime{}
		case !peers || e.shared == nil:
			return
		case half == tcpip.MonotonicTime{}:
			half = e.st.Clock().NowMonotonic()
		case e.st.Clock().NowMonotonic().Sub(half) >= finWait:
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-e.after(wait):
		}
		wait = min(2*wait, 20*time.Millisecond)
	}
}

// unfinished says whether a FIN that was sent is not acknowledged, and whether
// one was that the peer has not answered with its own.
func (e *Engine) unfinished() (own, peers bool) {
	for _, ep := range e.st.RegisteredEndpoints() {
		if s, ok := tcpStateOf(ep); ok {
			switch s {
			case tcp.StateFinWait1, tcp.StateClosing, tcp.StateLastAck:
				own = true
			case tcp.StateFinWait2:
				peers = true
			}
		}
	}
	return own, peers
}

// after is a channel that something comes from once, d later by the engine's
// clock.
func (e *Engine) after(d time.Duration) <-chan struct{} {
	c := make(chan struct{}, 1)
	e.st.Clock().AfterFunc(d, func() { c <- struct{}{} })
	return c
}

package tracer

import (
	"context"
	"time"
)

// Drain waits, after Serve, until every stream has given the engine what its
// program wrote and every socket is closed, or until ctx is done.
func (t *Tracer) Drain(ctx context.Context) {
	for wait := 100 * time.Microsecond; t.sockets.Len() > 0 && ctx.Err() == nil; wait = min(2*wait, 20*time.Millisecond) {
		time.Sleep(wait)
	}
}

package netstack

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"gvisor.dev/gvisor/pkg/log"
)

// netstack writes warnings to one log of the whole process, by default to
// standard error, which is the traced program's. The first engine's logger
// takes them instead.
var quietOnce sync.Once

func quiet(l *slog.Logger) {
	quietOnce.Do(func() { log.SetTarget(emitter{l}) })
}

// emitter writes netstack's log to a slog.Logger.
type emitter struct{ l *slog.Logger }

// Emit implements log.Emitter.
func (e emitter) Emit(_ int, level log.Level, _ time.Time, format string, v ...any) {
	l := slog.LevelInfo
	switch level {
	case log.Warning:
		l = slog.LevelWarn
	case log.Debug:
		l = slog.LevelDebug
	}
	if e.l.Enabled(context.Background(), l) {
		e.l.Log(context.Background(), l, fmt.Sprintf(format, v...), "from", "netstack")
	}
}

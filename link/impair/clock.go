package impair

import "time"

// Clock is where a link's time comes from. Its methods are safe for concurrent
// use.
type Clock interface {
	// Now is the time since some origin. It does not run backwards.
	Now() time.Duration
	// NewTimer makes a timer that calls f, one call at a time.
	NewTimer(f func()) (Timer, error)
}

// Timer calls a function at a time.
type Timer interface {
	// Set has the function called at the time, soon if that is past, in place
	// of what was set before. It does not call it itself, and may be called
	// from within the function.
	Set(at time.Duration)
	// Close ends the timer; its function does not run after it has returned.
	// It must not be called from within the function.
	Close()
}

package tracer

import "time"

// Stats counts the trapped calls.
type Stats struct{}

func (s *Stats) count(c *call, d time.Duration) {}

func NewStats() *Stats { return &Stats{} }

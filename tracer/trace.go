package tracer

import "io"

// callTrace is what a traced call remembers for its line.
type callTrace struct {
	addr     sockaddr
	hasAddr  bool
	value    []byte
	hasValue bool
}

// Trace writes the lines of --trace.
type Trace struct{}

func (t *Trace) line(c *call, r result) {}

func (c *call) traceAddr(sa sockaddr) {
	if c.t.trace != nil {
		c.tr.addr, c.tr.hasAddr = sa, true
	}
}

func (c *call) traceValue(level, name int, val []byte) {
	if c.t.trace != nil {
		c.tr.value, c.tr.hasValue = append([]byte(nil), val...), true
	}
}

func NewTrace(w io.Writer) *Trace { return &Trace{} }

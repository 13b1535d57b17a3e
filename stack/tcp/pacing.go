package tcp

import "time"

// Pacer gives the rate at which segments leave.
type Pacer interface {
	// Rate is the rate in bytes a second; 0 for no pacing.
	Rate(w *Window) uint64
}

var pacers = registry[Pacer]{kind: "pacer"}

// RegisterPacer makes a pacer known under a name, for package initialization.
func RegisterPacer(name string, f func() Pacer) { pacers.add(name, f) }

// Pacers are their names.
func Pacers() []string { return pacers.names() }

func init() {
	RegisterPacer("auto", func() Pacer { return autoPacer{} })
	RegisterPacer("off", func() Pacer { return noPacer{} })
	RegisterPacer("on", func() Pacer { return windowPacer{} })
}

// autoPacer paces when the congestion control says so.
type autoPacer struct{}

func (autoPacer) Rate(w *Window) uint64 { return w.PacingRate }

type noPacer struct{}

func (noPacer) Rate(*Window) uint64 { return 0 }

// windowPacer spreads the congestion window over the round trip: twice its
// rate in slow start and 1.2 times later, as Linux (tcp_update_pacing_rate).
type windowPacer struct{}

func (windowPacer) Rate(w *Window) uint64 {
	if w.PacingRate > 0 {
		return w.PacingRate
	}
	return windowRate(w)
}

// windowRate is that rate, 0 while there is no round-trip time.
func windowRate(w *Window) uint64 {
	if w.SRTT <= 0 {
		return 0
	}
	gain := 1.2
	if w.Cwnd < w.Ssthresh/2 {
		gain = 2
	}
	return uint64(gain * float64(w.Cwnd) / w.SRTT.Seconds())
}

// pacing is when the next segment may leave.
type pacing struct {
	rate   uint64
	next   time.Duration
	waited bool // the timer was waited for
}

// paceCredit is how much lateness of the timer is made good: what could not be
// sent meanwhile follows at once.
const paceCredit = 4 * time.Millisecond

// ready says whether a segment may leave now; if not, the timer is set.
func (p *pacing) ready(c *Conn) bool {
	p.rate = c.pacer.Rate(&c.win)
	if m := c.opt.maxPacing; m > 0 && (p.rate == 0 || p.rate > m) {
		p.rate = m
	}
	c.win.paceRate = p.rate
	if p.rate == 0 || p.next <= c.now() {
		return true
	}
	c.timers[timerPace] = p.next
	p.waited = true
	return false
}

// sent moves the time on by what the segment takes at the rate.
func (p *pacing) sent(c *Conn, n int) {
	if p.rate == 0 {
		return
	}
	from := c.now()
	if p.waited {
		from -= paceCredit
	}
	p.next = max(p.next, from)
	if p.next >= c.now() {
		p.waited = false
	}
	p.next += time.Duration(float64(n) / float64(p.rate) * 1e9)
}

// SetMaxPacingRate is SO_MAX_PACING_RATE, bytes a second; 0 for none.
func (c *Conn) SetMaxPacingRate(r uint64) { c.opt.maxPacing = r }

package ui

// ticksPerSecond is how often the state is taken, historyTicks how much of it
// is remembered: a minute.
const ticksPerSecond, historyTicks = 10, 600

// ring is a series of the latest values, one a tick.
type ring struct {
	v []float32
	n int // values so far
}

func (r *ring) add(x float64) {
	if len(r.v) < historyTicks {
		r.v = append(r.v, float32(x))
	} else {
		r.v[r.n%historyTicks] = float32(x)
	}
	r.n++
}

// all are the values, oldest first.
func (r *ring) all() []float32 {
	if len(r.v) < historyTicks {
		return r.v
	}
	at := r.n % historyTicks
	return append(append(make([]float32, 0, historyTicks), r.v[at:]...), r.v[:at]...)
}

// series are several rings that grow together, by name.
type series map[string]*ring

func (s series) add(name string, x float64) {
	r := s[name]
	if r == nil {
		r = &ring{}
		s[name] = r
	}
	r.add(x)
}

func (s series) all() map[string][]float32 {
	m := make(map[string][]float32, len(s))
	for k, r := range s {
		m[k] = r.all()
	}
	return m
}

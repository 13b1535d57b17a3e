package tcp

// Backlog counts the connections of a listening socket as Linux does: those
// that nobody has accepted yet, at most Limit and one more, and those whose
// handshake is under way.
type Backlog struct {
	Limit int // of listen(2)
	Ready int // established, not accepted
	Half  int // in SYN-RECEIVED
}

// Verdict is what becomes of a SYN.
type Verdict int

// The verdicts: a connection, an answer without one (a cookie), none.
const (
	TakeSYN Verdict = iota
	CookieSYN
	DropSYN
)

// Full says whether the accept queue is full (sk_acceptq_is_full).
func (b *Backlog) Full() bool { return b.Ready > b.Limit }

// OnSYN says what becomes of a SYN (tcp_conn_request): with a full accept queue
// it is as if lost; with too many handshakes under way, which is what a flood
// looks like (RFC 4987 2), it is answered with a cookie.
func (b *Backlog) OnSYN(cfg *Config) Verdict {
	switch {
	case b.Full():
		cfg.Counters.ListenDrops.Add(1)
		return DropSYN
	case b.Half < max(b.Limit, 1):
		return TakeSYN
	case cfg.SYNCookies:
		return CookieSYN
	}
	cfg.Counters.ListenDrops.Add(1)
	return DropSYN
}

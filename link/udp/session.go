package udp

import (
	"encoding/binary"
	"time"

	"golang.org/x/crypto/chacha20poly1305"
	"golang.zx2c4.com/wireguard/replay"
)

// Lives of sessions.
const (
	rekeyAfter  = 2 * time.Minute // the initiator asks for new keys
	rejectAfter = 6 * time.Minute // the keys are used no more
	maxCounter  = 1 << 60         // messages under one key
	maxSessions = 3               // of one member, at once
)

// session is a pair of keys with another member, and the counters that go with
// them: what is sent under a key never has the same nonce twice, because every
// handshake makes new keys and the counter only grows.
type session struct {
	keys
	local, remote uint32 // indices
	born          time.Duration
	initiator     bool

	// Of whoever holds the transmitter.
	counter uint64 // of the next message sent
	nonce   [chacha20poly1305.NonceSize]byte

	// Of the receiving goroutine.
	scratch [chacha20poly1305.NonceSize]byte
	peer    *peer // nil until the other side has shown that it has the keys
	who     hello // before that
	window  replay.Filter
	newest  uint64 // largest counter received
}

// seal appends a message to b: header, encrypted text, tag. It reports false
// when the session is worn out.
func (s *session) seal(b []byte, typ byte, text []byte) ([]byte, bool) {
	n := s.counter
	if n >= maxCounter {
		return b, false
	}
	s.counter++
	at := len(b)
	b = append(b, typ, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, s.remote)
	b = binary.BigEndian.AppendUint64(b, n)
	binary.BigEndian.PutUint64(s.nonce[4:], n)
	return s.send.Seal(b, s.nonce[:], text, b[at:]), true
}

// open decrypts a message in place. It reports false for one that is not
// authentic, or that has come before, or is so old that this cannot be said. The
// message has dataHeader bytes at least.
func (s *session) open(b []byte) (text []byte, ok bool) {
	n := binary.BigEndian.Uint64(b[8:])
	binary.BigEndian.PutUint64(s.scratch[4:], n)
	text, err := s.recv.Open(b[dataHeader:dataHeader], s.scratch[:], b[dataHeader:], b[:dataHeader])
	if err != nil || !s.window.ValidateCounter(n, maxCounter) {
		return nil, false
	}
	return text, true
}

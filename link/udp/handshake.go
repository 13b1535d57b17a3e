package udp

import (
	"bytes"
	"crypto/cipher"
	"crypto/hmac"
	"encoding/binary"
	"errors"
	"hash"

	"github.com/flynn/noise"
	"golang.org/x/crypto/blake2s"
	"golang.org/x/crypto/chacha20poly1305"
)

// Types of datagrams; each begins with its type and three zeros.
const (
	typeInit    = 1 // sender's index, Noise message 1, MAC
	typeReply   = 2 // sender's index, receiver's index, Noise message 2, MAC
	typeFrame   = 3 // receiver's index, counter, encrypted frame
	typeControl = 4 // receiver's index, counter, encrypted control message
)

// Lengths, bytes.
const (
	tagLen     = chacha20poly1305.Overhead
	macLen     = 16
	dhLen      = 32
	helloLen   = idLen + 2 // who, and its MTU
	noiseLen   = dhLen + helloLen + tagLen
	initLen    = 8 + noiseLen + macLen
	replyLen   = 12 + noiseLen + macLen
	dataHeader = 16
	idLen      = 16
)

// prologue is what both sides agree to speak.
const prologue = "alptrace udp 1"

// memberID names a member, from its joining to its leaving.
type memberID [idLen]byte

// hello is what a handshake says of its sender.
type hello struct {
	id  memberID
	mtu int
}

func (h *hello) bytes() []byte {
	return binary.BigEndian.AppendUint16(append(make([]byte, 0, helloLen), h.id[:]...), uint16(h.mtu))
}

func parseHello(b []byte) (h hello, err error) {
	if len(b) != helloLen {
		return h, errMessage
	}
	return hello{memberID(b), int(binary.BigEndian.Uint16(b[idLen:]))}, nil
}

// keys are the pairs of keys of a session that a handshake has agreed on.
type keys struct{ send, recv cipher.AEAD }

var errMessage = errors.New("not a message of this protocol and key")

// suite makes and checks handshake messages.
//
// The handshake is Noise_NNpsk0_25519_ChaChaPoly_BLAKE2s (noiseprotocol.org,
// revision 34): two messages, each with a fresh Diffie-Hellman key of its
// sender's, both authenticated by the shared key. The session's keys can
// therefore not be computed later from the shared key and what was recorded, and
// no two sessions have the same. A MAC around the message costs whoever has not
// the key one hash of ours and nothing else.
type suite struct {
	psk   []byte
	suite noise.CipherSuite
	mac   hash.Hash // keyed; of one goroutine, as all of suite
	sum   [macLen]byte
}

func newSuite(k Key) (*suite, error) {
	s := &suite{psk: bytes.Clone(k[:]), suite: noise.NewCipherSuite(noise.DH25519, noise.CipherChaChaPoly, noise.HashBLAKE2s)}
	derived := blake2s.Sum256(append([]byte(prologue+" mac "), k[:]...))
	var err error
	s.mac, err = blake2s.New128(derived[:])
	return s, err
}

func (s *suite) state(initiator bool) (*noise.HandshakeState, error) {
	return noise.NewHandshakeState(noise.Config{
		CipherSuite: s.suite, Pattern: noise.HandshakeNN, Initiator: initiator,
		Prologue: []byte(prologue), PresharedKey: s.psk, PresharedKeyPlacement: 0,
	})
}

// seal adds the MAC.
func (s *suite) seal(b []byte) []byte {
	s.mac.Reset()
	s.mac.Write(b)
	return s.mac.Sum(b)
}

// verify says whether the last bytes of b are its MAC.
func (s *suite) verify(b []byte) bool {
	s.mac.Reset()
	s.mac.Write(b[:len(b)-macLen])
	return hmac.Equal(s.mac.Sum(s.sum[:0]), b[len(b)-macLen:])
}

// handshake is one that waits for its answer.
type handshake struct {
	*noise.HandshakeState
}

// begin makes an initiation from the given index.
func (s *suite) begin(index uint32, me *hello) (handshake, []byte, error) {
	st, err := s.state(true)
	if err != nil {
		return handshake{}, nil, err
	}
	b := binary.BigEndian.AppendUint32([]byte{typeInit, 0, 0, 0}, index)
	b, _, _, err = st.WriteMessage(b, me.bytes())
	return handshake{st}, s.seal(b), err
}

// initiation is one that has been received.
type initiation struct {
	handshake
	hello
	ephemeral [dhLen]byte // the sender's, never the same twice
	index     uint32      // the sender's
}

// open reads an initiation. It takes no Diffie-Hellman operation.
func (s *suite) open(b []byte) (*initiation, error) {
	if len(b) != initLen || !s.verify(b) {
		return nil, errMessage
	}
	st, err := s.state(false)
	if err != nil {
		return nil, err
	}
	text, _, _, err := st.ReadMessage(nil, b[8:len(b)-macLen])
	if err != nil {
		return nil, errMessage
	}
	h, err := parseHello(text)
	return &initiation{handshake{st}, h, [dhLen]byte(b[8:]), binary.BigEndian.Uint32(b[4:])}, err
}

// reply makes the answer from the given index, and the session's keys.
func (in *initiation) reply(s *suite, index uint32, me *hello) ([]byte, keys, error) {
	b := binary.BigEndian.AppendUint32([]byte{typeReply, 0, 0, 0}, index)
	b = binary.BigEndian.AppendUint32(b, in.index)
	b, theirs, mine, err := in.WriteMessage(b, me.bytes())
	if err != nil {
		return nil, keys{}, err
	}
	k, err := newKeys(mine, theirs)
	return s.seal(b), k, err
}

// finish reads the answer to an initiation: who has answered, from which index.
func (h handshake) finish(b []byte) (who hello, index uint32, k keys, err error) {
	text, mine, theirs, err := h.ReadMessage(nil, b[12:len(b)-macLen])
	if err != nil {
		return who, 0, k, errMessage
	}
	if who, err = parseHello(text); err != nil {
		return who, 0, k, err
	}
	k, err = newKeys(mine, theirs)
	return who, binary.BigEndian.Uint32(b[4:]), k, err
}

func newKeys(send, recv *noise.CipherState) (keys, error) {
	var aeads [2]cipher.AEAD
	for i, c := range []*noise.CipherState{send, recv} {
		key := c.UnsafeKey()
		a, err := chacha20poly1305.New(key[:])
		if err != nil {
			return keys{}, err
		}
		aeads[i] = a
	}
	return keys{aeads[0], aeads[1]}, nil
}

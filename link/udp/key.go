package udp

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// KeyLen is the length of a key, bytes.
const KeyLen = 32

// Key is the secret that the members share: who has it is a member.
type Key [KeyLen]byte

// NewKey makes a random key.
func NewKey() Key {
	var k Key
	_, _ = rand.Read(k[:]) // never fails
	return k
}

// Text is the key as a key file has it: base64, as wg(8) writes its keys.
func (k Key) Text() string { return base64.StdEncoding.EncodeToString(k[:]) }

// String hides the key.
func (Key) String() string { return "(key)" }

// GoString hides the key.
func (Key) GoString() string { return "udp.Key{}" }

// ErrKey is what is wrong with a key file's content.
var ErrKey = errors.New("want one line of base64 for 32 bytes, as alptrace --gen-key prints it")

// ParseKey reads the content of a key file.
func ParseKey(text string) (Key, error) {
	var k Key
	b, err := base64.StdEncoding.Strict().DecodeString(strings.TrimSpace(text))
	if err != nil || len(b) != KeyLen {
		return k, ErrKey
	}
	k = Key(b)
	if k == (Key{}) {
		return k, errors.New("the key is all zeros")
	}
	return k, nil
}

// ReadKey reads a key file. One that others can read or write, or that belongs to
// somebody else, is refused (EPERM).
func ReadKey(path string) (Key, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return Key{}, err
	}
	defer f.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return Key{}, fmt.Errorf("%s: %w", path, err)
	}
	switch uid := os.Geteuid(); {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return Key{}, fmt.Errorf("%s: not a regular file", path)
	case int(st.Uid) != uid && st.Uid != 0:
		return Key{}, fmt.Errorf("%s: the key belongs to user %d: %w", path, st.Uid, unix.EPERM)
	case st.Mode&0o077 != 0:
		return Key{}, fmt.Errorf("%s: others have access to the key (mode %#o): make it 0600: %w", path, st.Mode&0o7777, unix.EPERM)
	}
	text, err := io.ReadAll(io.LimitReader(f, 4096))
	if err != nil {
		return Key{}, err
	}
	k, err := ParseKey(string(text))
	if err != nil {
		return Key{}, fmt.Errorf("%s: %w", path, err)
	}
	return k, nil
}

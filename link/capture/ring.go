package capture

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
)

// Ring is where a capture goes that is split into files by size. It is for one
// capture: the first Write is the head that every file begins with.
//
// The files are named as tcpdump(8) names them with -C and -W: the name itself,
// then with 1, 2, ... appended; if their number is limited, with 0, 1, ..., in
// as many digits as the last has, and after the last the first is written anew.
type Ring struct {
	name  string
	size  int64
	files int
	n     int // of the current file
	head  []byte
	f     *os.File
	have  int64 // bytes in the current file
}

var _ io.WriteCloser = (*Ring)(nil)

// NewRing makes the first file. A file gets at most size bytes, or the one
// packet that is larger; files is how many there are, 0 is no limit.
func NewRing(name string, size int64, files int) (*Ring, error) {
	r := &Ring{name: name, size: size, files: files}
	return r, r.open()
}

func (r *Ring) open() (err error) {
	name := r.name
	switch {
	case r.files > 0:
		name += fmt.Sprintf("%0*d", len(strconv.Itoa(r.files-1)), r.n)
	case r.n > 0:
		name += strconv.Itoa(r.n)
	}
	r.f, err = os.Create(name)
	r.have = 0
	return err
}

// advance ends the current file and begins the next.
func (r *Ring) advance() error {
	if err := r.f.Close(); err != nil {
		return err
	}
	if r.n++; r.files > 0 {
		r.n %= r.files
	}
	if err := r.open(); err != nil {
		return err
	}
	return r.put(r.head)
}

func (r *Ring) put(b []byte) error {
	n, err := r.f.Write(b)
	r.have += int64(n)
	return err
}

var errBlock = errors.New("not a pcapng block")

// Write takes whole blocks.
func (r *Ring) Write(b []byte) (int, error) {
	if r.head == nil {
		r.head = append([]byte{}, b...)
		return len(b), r.put(b)
	}
	done := 0
	for done < len(b) {
		n := 0 // bytes of the blocks that fit
		for done+n < len(b) {
			rest := b[done+n:]
			if len(rest) < 12 || int(le.Uint32(rest[4:])) > len(rest) || le.Uint32(rest[4:]) < 12 {
				return done, errBlock
			}
			block := int(le.Uint32(rest[4:]))
			if r.have+int64(n+block) > r.size && (n > 0 || r.have > int64(len(r.head))) {
				break
			}
			n += block
		}
		if err := r.put(b[done : done+n]); err != nil {
			return done, err
		}
		if done += n; done < len(b) {
			if err := r.advance(); err != nil {
				return done, err
			}
		}
	}
	return done, nil
}

// Close closes the current file.
func (r *Ring) Close() error { return r.f.Close() }

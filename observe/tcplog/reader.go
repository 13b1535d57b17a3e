package tcplog

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// maxLine bounds a line, bytes.
const maxLine = 1 << 20

// Reader reads a log.
type Reader struct {
	lines *bufio.Scanner
	n     int
}

// NewReader reads the header. The error names what the file is not: empty, no
// log, or of another schema.
func NewReader(r io.Reader) (*Reader, Header, error) {
	rd := &Reader{lines: bufio.NewScanner(r)}
	rd.lines.Buffer(make([]byte, 0, 64<<10), maxLine)
	var h Header
	b, err := rd.line()
	switch {
	case errors.Is(err, io.EOF):
		return nil, h, fmt.Errorf("tcp-log: %w", io.ErrUnexpectedEOF)
	case err != nil:
		return nil, h, err
	}
	if err := json.Unmarshal(b, &h); err != nil {
		return nil, h, fmt.Errorf("tcp-log: line 1 is no header: %w", err)
	}
	if h.Schema != Schema {
		return nil, h, fmt.Errorf("tcp-log: schema %.40q, want %q", h.Schema, Schema)
	}
	return rd, h, nil
}

// Read gives the next record, io.EOF after the last. Fields and kinds of
// record that a later version may add are no error. A last line that was cut
// off, as of a run that was killed, is io.ErrUnexpectedEOF.
func (r *Reader) Read() (*Record, error) {
	b, err := r.line()
	if err != nil {
		return nil, err
	}
	rec := new(Record)
	if err := json.Unmarshal(b, rec); err != nil {
		if r.lines.Scan() {
			return nil, fmt.Errorf("tcp-log: line %d: %w", r.n, err)
		}
		return nil, fmt.Errorf("tcp-log: line %d is cut off: %w", r.n, io.ErrUnexpectedEOF)
	}
	return rec, nil
}

// line gives the next line that is not blank.
func (r *Reader) line() ([]byte, error) {
	for r.lines.Scan() {
		r.n++
		if b := bytes.TrimSpace(r.lines.Bytes()); len(b) > 0 {
			return b, nil
		}
	}
	if err := r.lines.Err(); err != nil {
		return nil, fmt.Errorf("tcp-log: line %d: %w", r.n+1, err)
	}
	return nil, io.EOF
}

package sweep

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"strconv"

	"github.com/alptrace/alptrace/sim/sweep/grid"
	"golang.org/x/sys/unix"
)

// schema is the version of the log's format.
const schema = "alplab-sweep-log/1"

// Header says what the rows of a log belong to.
type Header struct {
	Schema   string    `json:"schema"`
	Scenario string    `json:"scenario"` // its name
	Digest   string    `json:"digest"`   // SHA-256 of the scenario's files and the grid
	Program  string    `json:"program"`  // the version of what ran it
	Grid     grid.Grid `json:"grid"`
	Shard    Shard     `json:"shard"`
}

// Row is the result of one run.
type Row struct {
	Index int    `json:"row"`             // its place in the grid
	Error string `json:"error,omitempty"` // why there is no result
	Cells []Cell `json:"cells,omitempty"` // what was measured
	// Detail is what else is known of a failure (a stack trace). It is not part of the
	// table: it differs from run to run.
	Detail string `json:"detail,omitempty"`
}

// Log is a file of results, one line for each, after a line with the header. A line is
// the CRC-32C of its text in hexadecimal, a space, and the text in JSON.
//
// A line that was cut off by a crash, and all that follows it, is dropped when the log
// is opened: its rows run again. The file is locked while it is open.
type Log struct {
	f       *os.File
	Header  Header
	Rows    map[int]Row
	Dropped int64 // bytes at the end that were no whole line
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// line is a value as a line of a log.
func line(v any) ([]byte, error) {
	text, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, "%08x %s\n", crc32.Checksum(text, castagnoli), text), nil
}

// unline reads a line into v.
func unline(b []byte, v any) error {
	if len(b) < 10 || b[8] != ' ' || b[len(b)-1] != '\n' {
		return errors.New("not a whole line")
	}
	sum, err := strconv.ParseUint(string(b[:8]), 16, 32)
	text := b[9 : len(b)-1]
	if err != nil || uint32(sum) != crc32.Checksum(text, castagnoli) {
		return errors.New("wrong checksum")
	}
	return json.Unmarshal(text, v)
}

// OpenLog opens or makes a log to append to. An existing one must have the same header;
// if not, the error is a [MismatchError].
func OpenLog(path string, h Header) (*Log, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, err
	}
	l, err := resume(f, path, h)
	if err != nil {
		f.Close()
		return nil, err
	}
	return l, nil
}

// resume reads what is in a log and makes it ready for more.
func resume(f *os.File, path string, h Header) (*Log, error) {
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return nil, fmt.Errorf("%s: another sweep is writing it", path)
	}
	h.Schema = schema
	l, end, err := readLog(f, path)
	switch {
	case errors.Is(err, errEmpty):
		l = &Log{Header: h, Rows: map[int]Row{}, Dropped: end}
		end = 0
	case err != nil:
		return nil, err
	default:
		if err := l.Header.match(path, h); err != nil {
			return nil, err
		}
	}
	l.f = f
	if err := f.Truncate(end); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if _, err := f.Seek(end, io.SeekStart); err != nil {
		return nil, err
	}
	if end == 0 {
		if err := l.append(h); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return l, l.Sync()
}

// ReadLog reads a log that nobody is writing.
func ReadLog(path string) (*Log, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	l, _, err := readLog(f, path)
	if errors.Is(err, errEmpty) {
		return nil, fmt.Errorf("%s: not the log of a sweep", path)
	}
	return l, err
}

// errEmpty is the error for a log that has no header yet.
var errEmpty = errors.New("empty log")

// readLog reads all whole lines and says where they end. Without a whole header it says
// how many bytes there are instead.
func readLog(f io.Reader, path string) (*Log, int64, error) {
	r := bufio.NewReaderSize(f, 1<<16)
	first, err := r.ReadBytes('\n')
	if errors.Is(err, io.EOF) && (len(first) < 10 || first[8] == ' ') {
		return nil, int64(len(first)), errEmpty // cut off while the header was written
	}
	l := &Log{Rows: map[int]Row{}}
	if err := unline(first, &l.Header); err != nil || l.Header.Schema != schema {
		return nil, 0, fmt.Errorf("%s: not the log of a sweep", path)
	}
	end := int64(len(first))
	n := l.Header.Grid.Len()
	for {
		b, err := r.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, 0, fmt.Errorf("%s: %w", path, err)
		}
		if len(b) == 0 {
			return l, end, nil
		}
		var row Row
		if unline(b, &row) != nil {
			rest, err := io.Copy(io.Discard, r)
			l.Dropped = int64(len(b)) + rest
			return l, end, err
		}
		if row.Index < 0 || row.Index >= n || !l.Header.Shard.Has(row.Index) {
			return nil, 0, fmt.Errorf("%s: row %d is not of this shard", path, row.Index)
		}
		l.Rows[row.Index] = row
		end += int64(len(b))
	}
}

// Append adds a row. It is not safe before Sync.
func (l *Log) Append(r Row) error {
	if err := l.append(r); err != nil {
		return err
	}
	l.Rows[r.Index] = r
	return nil
}

func (l *Log) append(v any) error {
	b, err := line(v)
	if err != nil {
		return err
	}
	_, err = l.f.Write(b)
	return err
}

// Sync brings what was appended to the disk.
func (l *Log) Sync() error { return l.f.Sync() }

// Close ends the log.
func (l *Log) Close() error { return l.f.Close() }

// MismatchError says that a log is of something else.
type MismatchError struct {
	Path string
	What string // "scenario", "program", ...
}

// Error names the log and what differs.
func (e *MismatchError) Error() string {
	return fmt.Sprintf("%s is of another %s", e.Path, e.What)
}

// match is nil if a log with header h may go on with rows of want.
func (h *Header) match(path string, want Header) error {
	if err := h.same(path, want); err != nil {
		return err
	}
	if h.Shard != want.Shard {
		return &MismatchError{path, fmt.Sprintf("shard (%v, not %v)", h.Shard, want.Shard)}
	}
	return nil
}

// same is nil if the headers are of the same sweep.
func (h *Header) same(path string, want Header) error {
	if g, w := must(json.Marshal(h.Grid)), must(json.Marshal(want.Grid)); !bytes.Equal(g, w) {
		return &MismatchError{path, "grid of parameters"}
	}
	if h.Digest != want.Digest {
		return &MismatchError{path, "scenario, or the scenario has changed"}
	}
	if h.Program != want.Program {
		return &MismatchError{path, fmt.Sprintf("version of the program (%s, not %s)", h.Program, want.Program)}
	}
	return nil
}

// must is for what cannot fail: the encoding of plain structures.
func must(b []byte, err error) []byte {
	if err != nil {
		panic(err)
	}
	return b
}

package impair

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"sort"
	"strconv"
	"strings"
	"time"
)

// Trace is a varying rate: the times at which the link can carry a full-sized
// packet, as in Mahimahi's packet-delivery traces (mm-link(1)). One opportunity
// carries [OpportunityBytes], of several small packets or of a part of one; what
// it does not use is gone. After the last time the trace begins anew.
type Trace struct {
	File string
	at   []time.Duration // ascending
}

// OpportunityBytes is what one opportunity carries. Mahimahi counts a packet
// with the 4 bytes that a TUN device puts in front of it, and so is it done
// here: a packet takes its network-layer length and 4 bytes.
const OpportunityBytes = 1504

const tunHeader = 4

// Period is the time after which the trace begins anew.
func (t *Trace) Period() time.Duration { return t.at[len(t.at)-1] }

// Rate is the mean rate, in bit/s of network-layer packets of 1500 bytes.
func (t *Trace) Rate() float64 {
	return float64(len(t.at)) * (OpportunityBytes - tunHeader) * 8 / t.Period().Seconds()
}

// maxTrace is the largest trace file, bytes.
const maxTrace = 64 << 20

func readTrace(name string) (*Trace, error) {
	st, err := os.Stat(name)
	if err != nil {
		return nil, fmt.Errorf("read the trace: %w", err)
	}
	if !st.Mode().IsRegular() || st.Size() > maxTrace {
		return nil, errors.New("want a trace in a regular file of at most 64 MiB")
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, fmt.Errorf("read the trace: %w", err)
	}
	defer f.Close()
	t, err := ReadTrace(io.LimitReader(f, maxTrace))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	t.File = name
	return t, nil
}

// ReadTrace reads a trace: a line for each opportunity, with its time in whole
// milliseconds, ascending. Empty lines, and lines that begin with #, are
// skipped. Errors name the line.
func ReadTrace(r io.Reader) (*Trace, error) {
	t := &Trace{}
	sc := bufio.NewScanner(r)
	for line := 1; sc.Scan(); line++ {
		s := strings.TrimSpace(sc.Text())
		if s == "" || s[0] == '#' {
			continue
		}
		ms, err := strconv.ParseUint(s, 10, 64)
		if err != nil || ms > 1e9 {
			return nil, fmt.Errorf("line %d: %q: want a time in whole milliseconds", line, s)
		}
		at := time.Duration(ms) * time.Millisecond
		if n := len(t.at); n > 0 && at < t.at[n-1] {
			return nil, fmt.Errorf("line %d: %d ms: want times in ascending order", line, ms)
		}
		t.at = append(t.at, at)
	}
	if err := sc.Err(); err != nil {
		return nil, err
	}
	if len(t.at) == 0 || t.Period() == 0 {
		return nil, errors.New("want at least one time above 0")
	}
	return t, nil
}

// opportunity is the n-th, counted over all repetitions, after the start.
func (t *Trace) opportunity(n int64) time.Duration {
	k := int64(len(t.at))
	return time.Duration(n/k)*t.Period() + t.at[n%k]
}

// after is the number of the first opportunity later than d after the start.
func (t *Trace) after(d time.Duration) int64 {
	if d < 0 {
		return 0
	}
	k := int64(len(t.at))
	// The last time of a repetition is the zero of the next one.
	cycle := int64(d / t.Period())
	rest := d % t.Period()
	i := int64(sort.Search(len(t.at), func(i int) bool { return t.at[i] > rest }))
	return cycle*k + i
}

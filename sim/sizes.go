package sim

import (
	"bufio"
	"bytes"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/alptrace/alptrace/lab/topo"
)

// step is one line of a size trace.
type step struct {
	at    time.Duration
	bytes int64
}

// parseSizes reads the trace of traffic that replays one: lines of "t,bytes", t
// in seconds since the traffic's start, never less than in the line before.
// Empty lines, and what follows a '#', mean nothing; a first line of names is
// skipped.
func parseSizes(t *topo.Traffic) ([]step, error) {
	if t.Kind != "trace" {
		return nil, nil
	}
	var steps []step
	lines := bufio.NewScanner(bytes.NewReader(t.Text))
	for n := 1; lines.Scan(); n++ {
		text, _, _ := strings.Cut(lines.Text(), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		at, size, ok := strings.Cut(text, ",")
		sec, err1 := strconv.ParseFloat(strings.TrimSpace(at), 64)
		count, err2 := strconv.ParseInt(strings.TrimSpace(size), 10, 64)
		if !ok || err1 != nil || err2 != nil || !(sec >= 0 && sec < 1e9) || count < 0 || count > math.MaxInt32 {
			if n == 1 {
				continue
			}
			return nil, fmt.Errorf("%s:%d: want \"seconds,bytes\", got %.40q", t.File, n, text)
		}
		x := step{time.Duration(math.Round(sec * 1e9)), count}
		if len(steps) > 0 && x.at < steps[len(steps)-1].at {
			return nil, fmt.Errorf("%s:%d: time runs backwards", t.File, n)
		}
		steps = append(steps, x)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: %w", t.File, err)
	}
	if len(steps) == 0 {
		return nil, fmt.Errorf("%s: the trace is empty", t.File)
	}
	return steps, nil
}

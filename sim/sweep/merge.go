package sweep

import (
	"errors"
	"fmt"
	"strings"
)

// Merge reads the logs of all shards of a sweep, in any order, and makes the table that
// one machine would have made. failed is how many of its rows have an error.
func Merge(paths []string) (t *Table, failed int, err error) {
	if len(paths) == 0 {
		return nil, 0, errors.New("no shards to merge")
	}
	var first *Log
	rows := map[int]Row{}
	from := map[int]string{} // shard's number: its file
	var errs []error
	for _, p := range paths {
		l, err := ReadLog(p)
		if err != nil {
			return nil, 0, err
		}
		h := &l.Header
		if first == nil {
			first = l
		} else if err := h.same(p, first.Header); err != nil {
			return nil, 0, fmt.Errorf("%w than that of %s", err, paths[0])
		} else if h.Shard.Count != first.Header.Shard.Count {
			return nil, 0, fmt.Errorf("%s is shard %v, %s is shard %v: not of one sweep",
				p, h.Shard, paths[0], first.Header.Shard)
		}
		if q, ok := from[h.Shard.Index]; ok {
			return nil, 0, fmt.Errorf("%s and %s are both shard %v", q, p, h.Shard)
		}
		from[h.Shard.Index] = p
		if have, want := len(l.Rows), h.Shard.rows(h.Grid.Len()); have < want {
			errs = append(errs, fmt.Errorf("%s (shard %v) has %d of its %d rows: start it again, and it goes on",
				p, h.Shard, have, want))
		}
		failed += l.failed()
		for i, r := range l.Rows {
			rows[i] = r
		}
	}
	if missing := absent(from, first.Header.Shard.Count); missing != "" {
		errs = append(errs, fmt.Errorf("of %d shards these are missing: %s", first.Header.Shard.Count, missing))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, 0, err
	}
	return NewTable(&first.Header.Grid, rows), failed, nil
}

// absent lists the numbers from 1 to n that are not there, runs of them as "3-5".
func absent(have map[int]string, n int) string {
	var l []string
	for i := 1; i <= n; i++ {
		if have[i] != "" {
			continue
		}
		first := i
		for i < n && have[i+1] == "" {
			i++
		}
		if first == i {
			l = append(l, fmt.Sprint(i))
		} else {
			l = append(l, fmt.Sprintf("%d-%d", first, i))
		}
	}
	return strings.Join(l, ", ")
}

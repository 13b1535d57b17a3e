package sweep

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Shard is a part of a sweep: every Count-th row, from row Index-1 on, so that rows
// that take long are spread over the shards.
type Shard struct {
	Index int `json:"index"` // from 1
	Count int `json:"count"`
}

// Whole is the shard that has every row.
var Whole = Shard{1, 1}

// String is I/N.
func (s Shard) String() string { return fmt.Sprintf("%d/%d", s.Index, s.Count) }

// Has reports whether the row is in the shard.
func (s Shard) Has(row int) bool { return row%s.Count == s.Index-1 }

// ParseShard reads "I/N", 1 <= I <= N. An I of "auto" is taken from the environment of
// a Kubernetes Indexed Job (JOB_COMPLETION_INDEX, from 0) or of a Slurm array
// (SLURM_ARRAY_TASK_ID, from SLURM_ARRAY_TASK_MIN on); N may then be "auto" as well in
// Slurm (SLURM_ARRAY_TASK_COUNT).
func ParseShard(s string, getenv func(string) string) (Shard, error) {
	index, count, ok := strings.Cut(s, "/")
	if !ok {
		return Shard{}, fmt.Errorf("shard %q: want I/N, as 3/8", s)
	}
	if count == "auto" {
		if count = getenv("SLURM_ARRAY_TASK_COUNT"); count == "" {
			return Shard{}, fmt.Errorf("shard %q: SLURM_ARRAY_TASK_COUNT is not set: want the number of shards", s)
		}
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 1 {
		return Shard{}, fmt.Errorf("shard %q: want a number of shards from 1 on after the slash", s)
	}
	var i int
	if index == "auto" {
		i, err = autoIndex(getenv)
	} else {
		i, err = strconv.Atoi(index)
	}
	if err != nil {
		return Shard{}, fmt.Errorf("shard %q: %w", s, err)
	}
	if i < 1 || i > n {
		return Shard{}, fmt.Errorf("shard %q: %d is not from 1 to %d", s, i, n)
	}
	return Shard{i, n}, nil
}

// autoIndex is the shard's number, from 1, as the engine that runs it says.
func autoIndex(getenv func(string) string) (int, error) {
	if v := getenv("JOB_COMPLETION_INDEX"); v != "" {
		i, err := strconv.Atoi(v)
		return i + 1, err
	}
	v := getenv("SLURM_ARRAY_TASK_ID")
	if v == "" {
		return 0, errors.New("neither JOB_COMPLETION_INDEX nor SLURM_ARRAY_TASK_ID is set")
	}
	i, err := strconv.Atoi(v)
	if err != nil {
		return 0, err
	}
	first := 1
	if v := getenv("SLURM_ARRAY_TASK_MIN"); v != "" {
		if first, err = strconv.Atoi(v); err != nil {
			return 0, err
		}
	}
	return i - first + 1, nil
}

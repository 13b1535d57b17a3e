package grid

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"strconv"
)

// maxSeries is how many values a series may have.
const maxSeries = 1_000_000

// series is the values of {from, to}, with a step or a number n of values, in equal
// steps or (log) equal ratios.
//
// Arithmetic series are exact in decimals, so that 0.1 + 0.2 is 0.3. Of geometric ones
// the inner values are rounded to six digits: the last bits of a logarithm differ
// between processors, and a value's text is part of what a row is.
func series(t map[string]any) ([]string, error) {
	for _, k := range slices.Sorted(maps.Keys(t)) {
		if !slices.Contains([]string{"from", "to", "step", "n", "log"}, k) {
			return nil, fmt.Errorf("a series has from, to, step, n and log, not %s", k)
		}
	}
	from, err := number(t, "from")
	if err != nil {
		return nil, err
	}
	to, err := number(t, "to")
	if err != nil {
		return nil, err
	}
	_, hasStep := t["step"]
	_, hasN := t["n"]
	log, isBool := t["log"].(bool)
	if _, hasLog := t["log"]; hasLog && !isBool {
		return nil, errors.New("log: want true or false")
	}
	switch {
	case hasStep && (hasN || log):
		return nil, errors.New("a series has a step, or n values: not both, and no step with log")
	case hasN || log:
		n, ok := t["n"].(int64)
		if !ok || n < 2 || n > maxSeries {
			return nil, fmt.Errorf("n: want the number of values, from 2 to %d", maxSeries)
		}
		if log {
			return geometric(from, to, int(n))
		}
		step := new(big.Rat).Sub(to, from)
		step.Quo(step, new(big.Rat).SetInt64(n-1))
		return arithmetic(from, step, int(n)), nil
	}
	step := big.NewRat(1, 1)
	if hasStep {
		if step, err = number(t, "step"); err != nil {
			return nil, err
		}
	}
	span := new(big.Rat).Sub(to, from)
	if step.Sign() == 0 || span.Sign()*step.Sign() < 0 {
		return nil, fmt.Errorf("a step of %s never gets from %s to %s", text(step), text(from), text(to))
	}
	q := new(big.Rat).Quo(span, step)
	count := new(big.Int).Quo(q.Num(), q.Denom())
	if !count.IsInt64() || count.Int64() >= maxSeries {
		return nil, fmt.Errorf("more than %d values", maxSeries)
	}
	return arithmetic(from, step, int(count.Int64())+1), nil
}

// number is a key's number as the decimal that was written.
func number(t map[string]any, key string) (*big.Rat, error) {
	switch v := t[key].(type) {
	case int64:
		return new(big.Rat).SetInt64(v), nil
	case float64:
		if !math.IsInf(v, 0) && !math.IsNaN(v) {
			r, _ := new(big.Rat).SetString(strconv.FormatFloat(v, 'g', -1, 64))
			return r, nil
		}
	}
	return nil, fmt.Errorf("%s: want a number", key)
}

// text is the shortest decimal of r, or of the nearest float where r has none.
func text(r *big.Rat) string {
	if r.IsInt() {
		return r.Num().String()
	}
	f, _ := r.Float64()
	return strconv.FormatFloat(f, 'g', -1, 64)
}

// arithmetic is n values from from on.
func arithmetic(from, step *big.Rat, n int) []string {
	var l []string
	v := new(big.Rat).Set(from)
	for range n {
		l = append(l, text(v))
		v.Add(v, step)
	}
	return l
}

// geometric is n values from from to to, of equal ratios.
func geometric(from, to *big.Rat, n int) ([]string, error) {
	if from.Sign() <= 0 || to.Sign() <= 0 {
		return nil, errors.New("log: want from and to above zero")
	}
	a, _ := from.Float64()
	b, _ := to.Float64()
	l := []string{text(from)}
	for i := 1; i < n-1; i++ {
		v := a * math.Pow(b/a, float64(i)/float64(n-1))
		r, _ := new(big.Rat).SetString(strconv.FormatFloat(v, 'g', 6, 64))
		l = append(l, text(r))
	}
	return append(l, text(to)), nil
}

package impair

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// word is one that a specification may have.
type word struct {
	name, want string
	set        func(s *Spec, val string) error
}

var words = []word{
	{"delay", "a duration, as 50ms", func(s *Spec, v string) error { return setDuration(&s.Delay, v) }},
	{"jitter", "a duration, and perhaps a distribution: 5ms, 5ms:uniform, 5ms:normal or 5ms:pareto", setJitter},
	{"loss", "a percentage, as 1%, or bursts as ge:P,R[,BAD[,GOOD]] in percent", setLoss},
	{"dup", "a percentage, as 0.1%", func(s *Spec, v string) error { return setPercent(&s.Dup, v) }},
	{"corrupt", "a percentage, as 0.01%", func(s *Spec, v string) error { return setPercent(&s.Corrupt, v) }},
	{"reorder", "a percentage, as 1%, or jitter", setReorder},
	{"rate", "bits per second as 10mbit (bit, kbit, mbit, gbit), or trace:FILE", setRate},
	{"overhead", "bytes for each packet from 0 to 1000, as 24", setOverhead},
	{"mtu", "bytes from 576 to 65535, as 1500", setMTU},
	{"queue", "a limit in packets or bytes, as 100p or 64kb, or red, codel or fq_codel, with perhaps :NAME=VALUE,... behind it", setQueue},
	{"ecn", "no value", setECN},
	{"down", "how long and how often, as 3s@10s", setDown},
	{"seed", "a number above 0, as 7", setSeed},
}

// errWant stands for the whole of what is allowed.
var errWant = errors.New("")

// Parse reads a specification: words such as "delay=50ms" with blanks between.
// docs/impair.md lists them. An error names the word and what is allowed. A
// trace's file is read at once.
func Parse(spec string) (Spec, error) {
	var s Spec
	seen := map[string]bool{}
	for _, w := range strings.Fields(spec) {
		name, val, has := strings.Cut(w, "=")
		i := find(name)
		if i < 0 {
			return Spec{}, fmt.Errorf("%q: unknown word, want %s", w, wordList())
		}
		if seen[name] {
			return Spec{}, fmt.Errorf("%q: %s is given twice", w, name)
		}
		seen[name] = true
		if has == (name == "ecn") {
			return Spec{}, fmt.Errorf("%q: want %s", w, example(i))
		}
		switch err := words[i].set(&s, val); {
		case err == errWant:
			return Spec{}, fmt.Errorf("%q: want %s", w, words[i].want)
		case err != nil:
			return Spec{}, fmt.Errorf("%q: %w", w, err)
		}
	}
	for _, n := range []struct{ word, needs string }{{"queue", "rate"}, {"overhead", "rate"}, {"reorder", "delay"}, {"ecn", "queue"}} {
		if seen[n.word] && !seen[n.needs] {
			if n.word == "reorder" && seen["jitter"] {
				continue
			}
			return Spec{}, fmt.Errorf("%q: needs %s", n.word, example(find(n.needs)))
		}
	}
	if err := s.check(); err != nil {
		return Spec{}, err
	}
	return s, nil
}

// find is the place of a word, -1 if there is none.
func find(name string) int {
	return slices.IndexFunc(words, func(w word) bool { return w.name == name })
}

func wordList() string {
	var l []string
	for _, w := range words {
		l = append(l, w.name)
	}
	return strings.Join(l[:len(l)-1], ", ") + " or " + l[len(l)-1]
}

func example(i int) string {
	if words[i].name == "ecn" {
		return "ecn alone, without a value"
	}
	return words[i].name + "= with " + words[i].want
}

// check refuses what contradicts itself, or is out of range, in a Spec however
// made. The error names the word.
func (s *Spec) check() error {
	const longest = time.Hour
	for _, d := range []struct {
		word string
		d    time.Duration
	}{{"delay", s.Delay}, {"jitter", s.Jitter}} {
		if d.d < 0 || d.d > longest {
			return fmt.Errorf("%q: want a duration from 0 to %v", d.word, longest)
		}
	}
	for _, p := range []struct {
		word string
		p    float64
	}{{"loss", s.Loss}, {"loss", s.Burst.P}, {"loss", s.Burst.R}, {"loss", s.Burst.Bad}, {"loss", s.Burst.Good},
		{"dup", s.Dup}, {"corrupt", s.Corrupt}, {"reorder", s.Reorder}, {"queue", s.Queue.P}, {"queue", s.Queue.Weight}} {
		if !(p.p >= 0 && p.p <= 1) {
			return fmt.Errorf("%q: want percentages from 0%% to 100%%", p.word)
		}
	}
	q := s.Queue.withDefaults()
	switch {
	case s.Dist > Pareto:
		return errors.New(`"jitter": want uniform, normal or pareto`)
	case s.Loss != 0 && s.Burst != GilbertElliott{}:
		return errors.New(`"loss": want independent losses or bursts, not both`)
	case s.Reorder != 0 && s.ReorderJitter:
		return errors.New(`"reorder": want a percentage or jitter, not both`)
	case s.ReorderJitter && s.Jitter == 0:
		return errors.New(`"reorder=jitter": needs jitter= with a duration, as 5ms`)
	case s.Rate < 0 || s.Rate > maxRate:
		return errors.New(`"rate": want 1bit to 100gbit`)
	case s.Rate != 0 && s.Trace != nil:
		return errors.New(`"rate": want a number or a trace, not both`)
	case s.Overhead < 0 || s.Overhead > 1000:
		return errors.New(`"overhead": want 0 to 1000 bytes`)
	case s.MTU != 0 && (s.MTU < minMTU || s.MTU > maxMTU):
		return errors.New(`"mtu": want 576 to 65535 bytes`)
	case s.Down < 0 || s.Every < 0 || s.Down != 0 && s.Down >= s.Every:
		return errors.New(`"down": want the time down shorter than the period, as 3s@10s`)
	case s.ECN && s.Queue.Kind == DropTail:
		return errors.New(`"ecn": needs queue=red, queue=codel or queue=fq_codel, which mark`)
	case q.Kind > FQCoDel || q.Packets < 0 || q.Bytes < 0 || q.Packets != 0 && q.Bytes != 0,
		max(q.Packets, q.Bytes) > math.MaxInt32:
		return errors.New(`"queue": want a limit in packets or in bytes, at most 2147483647`)
	case q.Kind == RED && (q.Min < 0 || q.Max <= q.Min || q.Max > math.MaxInt32):
		return errors.New(`"queue": want min below max`)
	case q.Target < 0 || q.Interval < 0 || q.Target > q.Interval || q.Interval > longest:
		return errors.New(`"queue": want target at most interval`)
	case q.Flows < 0 || q.Flows > 65536 || q.Quantum < 0 || q.Quantum > 1<<20:
		return errors.New(`"queue": want flows from 1 to 65536, quantum from 1b to 1048576b`)
	}
	return nil
}

func setDuration(d *time.Duration, v string) error {
	x, err := time.ParseDuration(v)
	if err != nil || x < 0 {
		return errWant
	}
	*d = x
	return nil
}

func setPercent(p *float64, v string) error {
	n, ok := strings.CutSuffix(v, "%")
	x, err := strconv.ParseFloat(n, 64)
	if !ok || err != nil || !(x >= 0 && x <= 100) {
		return errWant
	}
	*p = x / 100
	return nil
}

func setJitter(s *Spec, v string) error {
	v, dist, has := strings.Cut(v, ":")
	if has {
		i := slices.Index(distributions, dist)
		if i < 0 {
			return errWant
		}
		s.Dist = Distribution(i)
	}
	return setDuration(&s.Jitter, v)
}

func setLoss(s *Spec, v string) error {
	ge, ok := strings.CutPrefix(v, "ge:")
	if !ok {
		return setPercent(&s.Loss, v)
	}
	f := strings.Split(ge, ",")
	if len(f) < 2 || len(f) > 4 {
		return errWant
	}
	s.Burst.Bad = 1
	for i, p := range []*float64{&s.Burst.P, &s.Burst.R, &s.Burst.Bad, &s.Burst.Good}[:len(f)] {
		if err := setPercent(p, f[i]); err != nil {
			return err
		}
	}
	return nil
}

func setReorder(s *Spec, v string) error {
	if v == "jitter" {
		s.ReorderJitter = true
		return nil
	}
	return setPercent(&s.Reorder, v)
}

type unit struct {
	name   string
	factor int64
}

var (
	rateUnits = []unit{{"bit", 1}, {"kbit", 1e3}, {"mbit", 1e6}, {"gbit", 1e9}}
	byteUnits = []unit{{"b", 1}, {"kb", 1e3}, {"mb", 1e6}, {"kib", 1 << 10}, {"mib", 1 << 20}}
)

// maxRate keeps times in the range of int64 nanoseconds.
const maxRate = 100e9

// quantity reads a positive number with one of the units, at most limit.
func quantity(v string, units []unit, limit int64) (int64, bool) {
	i := strings.IndexFunc(v, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if i < 1 {
		return 0, false
	}
	x, err := strconv.ParseFloat(v[:i], 64)
	if err != nil {
		return 0, false
	}
	for _, u := range units {
		if u.name == strings.ToLower(v[i:]) {
			x = math.Round(x * float64(u.factor))
			return int64(min(x, math.MaxInt64/2)), x >= 1 && x <= float64(limit)
		}
	}
	return 0, false
}

func setRate(s *Spec, v string) error {
	if file, ok := strings.CutPrefix(v, "trace:"); ok {
		if file == "" {
			return errWant
		}
		var err error
		s.Trace, err = readTrace(file)
		return err
	}
	n, ok := quantity(v, rateUnits, maxRate)
	if !ok {
		return errWant
	}
	s.Rate = n
	return nil
}

func setOverhead(s *Spec, v string) error {
	n, err := strconv.ParseUint(v, 10, 16)
	if err != nil || n > 1000 {
		return errWant
	}
	s.Overhead = int(n)
	return nil
}

// minMTU is what every host must take (RFC 791 3.2); IPv6 needs 1280.
const minMTU, maxMTU = 576, 65535

func setMTU(s *Spec, v string) error {
	n, err := strconv.ParseUint(v, 10, 16)
	if err != nil || n < minMTU {
		return errWant
	}
	s.MTU = int(n)
	return nil
}

func setECN(s *Spec, _ string) error { s.ECN = true; return nil }

func setDown(s *Spec, v string) error {
	down, every, ok := strings.Cut(v, "@")
	if !ok || setDuration(&s.Down, down) != nil || setDuration(&s.Every, every) != nil ||
		s.Down == 0 || s.Down >= s.Every {
		return errWant
	}
	return nil
}

func setSeed(s *Spec, v string) error {
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil || n == 0 {
		return errWant
	}
	s.Seed = n
	return nil
}

// setSize reads a number of packets or bytes.
func setSize(packets, bytes *int, v string) bool {
	if n, ok := quantity(v, []unit{{"p", 1}}, math.MaxInt32); ok {
		*packets = int(n)
		return true
	}
	n, ok := quantity(v, byteUnits, math.MaxInt32)
	if ok {
		*bytes = int(n)
	}
	return ok
}

func setQueue(s *Spec, v string) error {
	q := &s.Queue
	kind, params, has := strings.Cut(v, ":")
	i := slices.Index(queueKinds[1:], kind)
	if i < 0 {
		if !has && setSize(&q.Packets, &q.Bytes, v) {
			return nil
		}
		return errWant
	}
	q.Kind = QueueKind(i + 1)
	if !has {
		return nil
	}
	var red struct{ p, b int } // the units of min and max
	seen := map[string]bool{}
	for _, f := range strings.Split(params, ",") {
		name, val, _ := strings.Cut(f, "=")
		if seen[name] {
			return fmt.Errorf("%s is given twice", name)
		}
		seen[name] = true
		if err := q.setParam(name, val, &red.p, &red.b); err != nil {
			return err
		}
	}
	limitInBytes := q.Bytes != 0
	if red.p != 0 && (red.b != 0 || limitInBytes) || red.b != 0 && !limitInBytes {
		return errors.New("want limit, min and max all in packets or all in bytes")
	}
	return nil
}

// queueParams says what each discipline takes.
var queueParams = [...]string{
	RED:     "limit, min and max (as 100p or 64kb), p and weight (as 2%)",
	CoDel:   "limit (as 100p or 64kb), target and interval (as 5ms)",
	FQCoDel: "limit (as 100p), target and interval (as 5ms), flows (as 1024), quantum (as 1514b)",
}

// setParam reads one parameter of the discipline. Sizes of min and max are
// also added to p or b, by their unit.
func (q *Queue) setParam(name, val string, p, b *int) error {
	want := fmt.Errorf("%s=%s: %v takes %s", name, val, q.Kind, queueParams[q.Kind])
	codel, ok := q.Kind == CoDel || q.Kind == FQCoDel, false
	switch {
	case name == "limit":
		ok = setSize(&q.Packets, &q.Bytes, val) && (q.Kind != FQCoDel || q.Bytes == 0)
	case q.Kind == RED && (name == "min" || name == "max"):
		var np, nb int
		ok = setSize(&np, &nb, val)
		*p, *b = *p+np, *b+nb
		if name == "min" {
			q.Min = np + nb
		} else {
			q.Max = np + nb
		}
	case q.Kind == RED && name == "p":
		ok = setPercent(&q.P, val) == nil && q.P > 0
	case q.Kind == RED && name == "weight":
		ok = setPercent(&q.Weight, val) == nil && q.Weight > 0
	case codel && name == "target":
		ok = setDuration(&q.Target, val) == nil && q.Target > 0
	case codel && name == "interval":
		ok = setDuration(&q.Interval, val) == nil && q.Interval > 0
	case q.Kind == FQCoDel && name == "flows":
		n, err := strconv.ParseUint(val, 10, 32)
		q.Flows, ok = int(n), err == nil && n >= 1 && n <= 65536
	case q.Kind == FQCoDel && name == "quantum":
		n, good := quantity(val, byteUnits, 1<<20)
		q.Quantum, ok = int(n), good
	}
	if !ok {
		return want
	}
	return nil
}

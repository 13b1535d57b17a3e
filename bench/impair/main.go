// Command impair measures the impairment of links (link/impair): it prints what
// was asked for against what came of it, and what the difference may be.
//
//	go run ./bench/impair [-time 2s] [-only REGEXP]
//
// Chances and queues are measured in virtual time, where they depend on nothing
// but the seed, against what theory says; the bounds on counts are five standard
// deviations of the binomial distribution. Delays and rates are measured in real
// time, at the link underneath. There the machine has a say: beside each delay,
// another process does nothing but sleep, and its lateness is printed too. A
// delay that is out of bounds while that process was itself as late is
// marked "machine", for it says nothing about the link.
//
// The exit status is 1 if something is out of bounds.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"text/tabwriter"
	"time"
)

func main() {
	switch err := run(os.Args[1:], os.Stdout); {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "impair:", err)
		os.Exit(1)
	}
}

// verdict is whether a figure is within its bounds.
type verdict string

const (
	good    verdict = "ok"
	missed  verdict = "MISSED"
	machine verdict = "machine" // which was as late itself
)

// row is a line of the table.
type row struct {
	what, asked, got, allowed string
	verdict                   verdict
	note                      string
}

// figure is a row that is within its bounds or not.
func figure(what, asked, got, allowed string, ok bool) row {
	r := row{what: what, asked: asked, got: got, allowed: allowed, verdict: good}
	if !ok {
		r.verdict = missed
	}
	return r
}

// measurement makes rows about one specification.
type measurement struct {
	group, spec string
	f           func(m *measurement, length time.Duration) ([]row, error)
}

func run(args []string, w io.Writer) error {
	fs := flag.NewFlagSet("impair", flag.ContinueOnError)
	length := fs.Duration("time", 2*time.Second, "of each measurement in real time")
	only := fs.String("only", "", "only the measurements whose group and specification match this `REGEXP`")
	sleeper := fs.Bool("sleep", false, "internal: only sleep, until the standard input ends, and print how late that was")
	if err := fs.Parse(args); err != nil {
		return err
	}
	if *sleeper {
		return sleep(os.Stdin, w)
	}
	match, err := regexp.Compile(*only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	if *length < 200*time.Millisecond {
		return fmt.Errorf("-time %v: at least 200ms", *length)
	}
	bad, group := 0, ""
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, m := range measurements() {
		if !match.MatchString(m.group + " " + m.spec) {
			continue
		}
		if m.group != group {
			if group != "" {
				fmt.Fprintln(t, "\t\t\t\t\t\t")
			}
			group = m.group
			note := ""
			if strings.HasPrefix(group, "delays") {
				note = "another process's sleep, at the same time"
			}
			fmt.Fprintf(t, "%s\t\tasked\tgot\tallowed\t\t%s\n", group, note)
		}
		rows, err := m.f(&m, *length)
		if err != nil {
			return fmt.Errorf("%s: %w", m.spec, err)
		}
		for i, r := range rows {
			spec := m.spec
			if i > 0 {
				spec = ""
			}
			fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\t%s\t%s\n", spec, r.what, r.asked, r.got, r.allowed, r.verdict, r.note)
			if r.verdict == missed {
				bad++
			}
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	if bad > 0 {
		return fmt.Errorf("%d figures out of bounds", bad)
	}
	return nil
}

func measurements() []measurement {
	var list []measurement
	add := func(group string, f func(*measurement, time.Duration) ([]row, error), specs ...string) {
		for _, s := range specs {
			list = append(list, measurement{group, s, f})
		}
	}
	add("chances", chances, "loss=0.1%", "loss=1%", "loss=10%", "loss=ge:1%,25%", "loss=ge:0.5%,10%,80%,0.1%",
		"dup=0.1%", "corrupt=0.01%", "corrupt=1%", "delay=50ms reorder=1%")
	add("jitter", jitter, "delay=50ms jitter=5ms", "delay=50ms jitter=5ms:normal", "delay=50ms jitter=5ms:pareto")
	add("queues", dropTail, "rate=12mbit queue=100p", "rate=12mbit queue=64kb")
	add("queues", randomEarly, "rate=12mbit queue=red:limit=400p,min=50p,max=150p,p=10%", "rate=12mbit ecn queue=red:limit=400p,min=50p,max=150p,p=10%")
	add("queues", controlLaw, "rate=12mbit queue=codel", "rate=12mbit ecn queue=codel")
	add("queues", fair, "rate=10mbit queue=fq_codel")
	add("line", flap, "down=3s@10s", "down=200ms@1s")
	add("line", traced, "6 Mbit/s trace")
	add("rates, real time", rates, "rate=1mbit", "rate=10mbit", "rate=100mbit", "rate=500mbit", "rate=1gbit")
	add("delays, real time: how late", delays, "delay=100us", "delay=1ms", "delay=10ms", "delay=50ms", "delay=200ms")
	return list
}

package main

import (
	"os"
	"strings"
	"testing"
	"time"
)

// TestMain is also the process that sleeps.
func TestMain(m *testing.M) {
	if len(os.Args) == 2 && os.Args[1] == "-sleep" {
		main()
		return
	}
	os.Exit(m.Run())
}

// TestVirtual: everything in virtual time is within its bounds, on any machine.
func TestVirtual(t *testing.T) {
	var out strings.Builder
	if err := run([]string{"-only", "^(chances|jitter|queues|line)"}, &out); err != nil {
		t.Errorf("%v\n%s", err, out.String())
	}
	if n := strings.Count(out.String(), " ok"); n < 20 {
		t.Errorf("%d figures\n%s", n, out.String())
	}
}

// TestReal: the measurements in real time end, and come to something.
func TestReal(t *testing.T) {
	rows, err := rates(&measurement{spec: "rate=100mbit"}, 300*time.Millisecond)
	if err != nil || len(rows) != 2 || rows[0].asked != "100.000" {
		t.Errorf("%+v, %v", rows, err)
	}
	late, slept, err := delay("delay=1ms", 200, 1000, 200*time.Millisecond)
	if err != nil || late.Min < 0 || slept.Min < 0 || late.Max > 5*time.Second {
		t.Errorf("late %v, slept %v, %v", late, slept, err)
	}
}

func TestArguments(t *testing.T) {
	for _, args := range [][]string{{"-only", "("}, {"-time", "1ms"}, {"-nonsense"}} {
		if err := run(args, &strings.Builder{}); err == nil {
			t.Errorf("%q is accepted", args)
		}
	}
}

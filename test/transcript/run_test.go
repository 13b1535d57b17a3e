package transcript

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"sort"
	"strings"
	"syscall"
	"testing"
	"time"
)

// timeout is how long one program may run. The programs end themselves by
// SIGALRM before, unless what runs them does not deliver it.
const timeout = 30 * time.Second

// result is what one run of a program shows.
type result struct {
	transcript []string // stdout, by streams
	status     string   // as the shell would tell: "exit 0", "SIGPIPE"
	stderr     string
}

// run executes args in a fresh namespace and waits until the program and all
// its descendants have closed stdout, or time is up.
func run(t *testing.T, self string, s stage) result {
	t.Helper()
	cmd, err := command(self, s)
	if err != nil {
		t.Fatal(err)
	}
	var out, diag bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &diag
	cmd.WaitDelay = 2 * time.Second
	if err := cmd.Start(); err != nil {
		if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) {
			t.Skipf("no network namespace here: %v", err)
		}
		t.Fatal(err)
	}
	timer := time.AfterFunc(timeout, func() {
		// The group's leader is not reaped before Wait returns: the number is its own.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	})
	err = cmd.Wait()
	late := !timer.Stop()
	r := result{transcript: streams(out.String()), stderr: diag.String()}
	switch {
	case late:
		r.status = fmt.Sprintf("killed after %v", timeout)
	case errors.Is(err, exec.ErrWaitDelay):
		r.status = "ended, but a descendant kept stdout open"
	default:
		r.status = statusName(cmd.ProcessState.Sys().(syscall.WaitStatus))
	}
	return r
}

func statusName(w syscall.WaitStatus) string {
	if w.Signaled() {
		return w.Signal().String()
	}
	return fmt.Sprintf("exit %d", w.ExitStatus())
}

// streams puts the lines of a transcript into an order that does not depend on
// scheduling: a line "NAME| text" is one of a stream of its own, and only the
// order within a stream counts. The unnamed stream comes first, then the
// others by name.
func streams(text string) []string {
	byName := map[string][]string{}
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		name, _, named := strings.Cut(line, "| ")
		if !named || strings.ContainsAny(name, " :") {
			name = ""
		}
		byName[name] = append(byName[name], line)
	}
	names := make([]string, 0, len(byName))
	for n := range byName {
		names = append(names, n)
	}
	sort.Strings(names)
	var lines []string
	for _, n := range names {
		lines = append(lines, byName[n]...)
	}
	return lines
}

// longest is how many lines of differences are shown.
const longest = 80

// diff gives the differing lines of two transcripts with their numbers and a
// line of context, "-" for want and "+" for got; empty if there are none.
func diff(want, got []string) string {
	// The longest common subsequence, by the usual table.
	table := make([][]int, len(want)+1)
	for i := range table {
		table[i] = make([]int, len(got)+1)
	}
	for i := len(want) - 1; i >= 0; i-- {
		for j := len(got) - 1; j >= 0; j-- {
			if want[i] == got[j] {
				table[i][j] = table[i+1][j+1] + 1
			} else {
				table[i][j] = max(table[i+1][j], table[i][j+1])
			}
		}
	}
	var b strings.Builder
	shown := false // whether the line before was a difference
	context := ""
	i, j := 0, 0
	for i < len(want) || j < len(got) {
		switch {
		case i < len(want) && j < len(got) && want[i] == got[j]:
			context = fmt.Sprintf("%4d   %s\n", i+1, want[i])
			shown = false
			i++
			j++
			continue
		case i < len(want) && (j == len(got) || table[i+1][j] >= table[i][j+1]):
			b.WriteString(leading(&shown, context))
			fmt.Fprintf(&b, "%4d - %s\n", i+1, want[i])
			i++
		default:
			b.WriteString(leading(&shown, context))
			fmt.Fprintf(&b, "     + %s\n", got[j])
			j++
		}
	}
	return shorten(b.String())
}

// shorten keeps the first lines of a text that is too long to read.
func shorten(text string) string {
	lines := strings.SplitAfter(text, "\n")
	if len(lines) <= longest {
		return text
	}
	return strings.Join(lines[:longest], "") + fmt.Sprintf("... %d lines more\n", len(lines)-longest)
}

// leading gives the line before a run of differences, once.
func leading(shown *bool, context string) string {
	if *shown {
		return ""
	}
	*shown = true
	return context
}

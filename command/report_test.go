package command

import (
	"fmt"
	"strings"
	"testing"

	"github.com/alptrace/alptrace/link/impair"
)

// TestSuffered: what is always said, and what only when it has happened.
func TestSuffered(t *testing.T) {
	rows := func(in, out impair.Stats) string {
		var b strings.Builder
		suffered(in, out, func(name, in, out string) { fmt.Fprintf(&b, "%s %s %s\n", name, in, out) })
		return b.String()
	}
	const quiet = "impaired: lost 0 0\ndropped, queue full 0 0\ndropped early 0 0\nmarked 0 0\nstill queued 0 0\n"
	if got := rows(impair.Stats{}, impair.Stats{}); got != quiet {
		t.Errorf("%q", got)
	}
	got := rows(impair.Stats{DropsLoss: 3, Reordered: 4}, impair.Stats{DropsQueue: 5, QueueLen: 6, DropsDown: 7})
	for _, want := range []string{"impaired: lost 3 0\n", "while down 0 7\n", "full 0 5\n", "reordered 4 0\n", "queued 0 6\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
}

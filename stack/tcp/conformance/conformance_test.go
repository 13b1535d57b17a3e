package conformance

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alptrace/alptrace/stack/tcp"
	"github.com/alptrace/alptrace/stack/tcp/tcptest"
)

// title is the first line of a script.
var title = regexp.MustCompile(`^# (RFC \d+ [\d.]+|tcp\(7\)|Linux|BUG): .+`)

// TestConformance runs every script of testdata. The name of a subtest is the
// script's path.
func TestConformance(t *testing.T) {
	passed, known := map[string]int{}, 0
	total := 0
	err := filepath.WalkDir("testdata", func(path string, d fs.DirEntry, err error) error {
		if err != nil || filepath.Ext(path) != ".pkt" {
			return err
		}
		name := strings.TrimSuffix(strings.TrimPrefix(path, "testdata/"), ".pkt")
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			total++
			switch why, failure := play(t, string(text)); {
			case why == "" && failure != "":
				t.Errorf("%s: %s", path, failure)
			case why != "" && failure == "":
				t.Errorf("%s passes, but is a known difference: %s", path, why)
			case why != "":
				known++
				t.Logf("%s: known difference: %s\n%s", path, why, failure)
			default:
				passed[filepath.Base(filepath.Dir(path))]++
			}
		})
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d scripts, %d known differences, passed: %v", total, known, passed)
}

// play runs a script and gives the reason for which it is known to fail, if it
// has one, and the failure.
func play(t *testing.T, text string) (known, failure string) {
	lines := strings.Split(text, "\n")
	if !title.MatchString(lines[0]) {
		return "", "the first line does not name a section: " + lines[0]
	}
	cfg := tcp.NewConfig()
	cfg.Timestamps = false
	for i, line := range lines {
		set, ok := strings.CutPrefix(line, "--")
		if !ok {
			continue
		}
		lines[i] = "" // the numbers of lines stay
		name, value, _ := strings.Cut(set, "=")
		if name == "known" {
			known = value
		} else if err := configure(cfg, name, value); err != nil {
			return "", fmt.Sprintf("line %d: %v", i+1, err)
		}
	}
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		tcptest.Run(r, cfg, strings.Join(lines, "\n"))
	}()
	<-done
	return known, r.failure
}

// configure sets what Config.Set knows, and what is no setting of users.
func configure(cfg *tcp.Config, name, value string) error {
	number := func(to *int) error {
		n, err := strconv.Atoi(value)
		*to = n
		return err
	}
	span := func(to *time.Duration) error {
		d, err := time.ParseDuration(value)
		*to = d
		return err
	}
	switch name {
	case "retries":
		return number(&cfg.Retries)
	case "synretries":
		return number(&cfg.SYNRetries)
	case "synackretries":
		return number(&cfg.SYNAckRetries)
	case "challengeacks":
		return number(&cfg.ChallengeAcks)
	case "fintimeout":
		return span(&cfg.FINTimeout)
	case "delackmin":
		return span(&cfg.DelayedAckMin)
	}
	return cfg.Set(name, value)
}

// recorder keeps a failure instead of reporting it.
type recorder struct {
	testing.TB
	failure string
}

// Fatalf implements testing.TB.
func (r *recorder) Fatalf(format string, args ...any) {
	r.failure = fmt.Sprintf(format, args...)
	runtime.Goexit()
}

// Helper implements testing.TB.
func (r *recorder) Helper() {}

// TestKnown: a failure shows both segments, and a known difference that is none
// is noticed.
func TestKnown(t *testing.T) {
	const script = "# RFC 9293 3.5: title\n--known=because\n0 connect\n0 > S 0:0(0) win 1"
	why, failure := play(t, script)
	if why != "because" || !strings.Contains(failure, "line 4") || !strings.Contains(failure, "want 0s > S 0:0(0) win 1\n") ||
		!strings.Contains(failure, "got  0s > S 0:0(0) win 65535") {
		t.Errorf("%q, %q", why, failure)
	}
	if _, failure := play(t, strings.Replace(script, "win 1", "win 65535", 1)); failure != "" {
		t.Error(failure)
	}
}

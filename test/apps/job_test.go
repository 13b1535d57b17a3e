package apps

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

// terminal is an interactive bash on a terminal (tmux).
type terminal struct {
	s    *scene
	sock string
}

// newTerminal starts bash in a new tmux, with $RUN the runner.
func newTerminal(s *scene) *terminal {
	s.t.Helper()
	tm := &terminal{s, s.dir + "/tmux.sock"}
	run := s.prefix(true)
	if len(run) > 0 && strings.HasSuffix(run[0], "setpriv") {
		run = run[4:]
	}
	s.env = append(s.env, "RUN="+strings.Join(run, " "))
	s.file("rc", "PS1='ready> '\nunset PROMPT_COMMAND HISTFILE\n")
	r := tm.tmux("-f", "/dev/null", "new-session", "-d", "-x", "120", "-y", "50", "exec bash --noprofile --rcfile "+s.dir+"/rc -i")
	s.want(r, 0)
	s.t.Cleanup(func() { tm.tmux("kill-server") })
	tm.expect(`ready>$`)
	return tm
}

func (tm *terminal) tmux(args ...string) result {
	tm.s.t.Helper()
	return tm.s.start(false, append([]string{"tmux", "-S", tm.sock}, args...)...).wait()
}

// line types a line; keys presses keys by tmux's names.
func (tm *terminal) line(text string) {
	tm.s.t.Helper()
	tm.s.want(tm.tmux("send-keys", "-l", text), 0)
	tm.keys("Enter")
}

func (tm *terminal) keys(names ...string) {
	tm.s.t.Helper()
	tm.s.want(tm.tmux(append([]string{"send-keys"}, names...)...), 0)
}

// screen is what the terminal shows, blanks at its end removed.
func (tm *terminal) screen() string {
	return strings.TrimRight(tm.tmux("capture-pane", "-p", "-J").out, "\n ")
}

// expect waits until the screen matches.
func (tm *terminal) expect(pattern string) {
	tm.s.t.Helper()
	re := regexp.MustCompile(pattern)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(30 * time.Millisecond) {
		text := tm.screen()
		if re.MatchString(text) {
			return
		}
		if time.Now().After(end) {
			tm.s.t.Fatalf("the terminal never showed %q:\n%s", pattern, text)
		}
	}
}

// cat starts cat under the runner and waits until it reads: what is typed
// before, bash's line editor may have from a terminal in raw mode.
func (tm *terminal) cat() {
	tm.s.t.Helper()
	tm.line(`$RUN sh -c 'echo up; exec cat'`)
	tm.expect(`(?m)^up$`)
	time.Sleep(100 * time.Millisecond)
}

// notice presses Enter until bash, which tells of its jobs at the prompt,
// shows the pattern.
func (tm *terminal) notice(pattern string) {
	tm.s.t.Helper()
	re := regexp.MustCompile(pattern)
	eventually(tm.s.t, 10*time.Second, pattern, func() bool {
		tm.keys("Enter")
		time.Sleep(50 * time.Millisecond)
		return re.MatchString(tm.screen())
	})
}

// clear empties the screen, at the prompt.
func (tm *terminal) clear() {
	tm.s.t.Helper()
	tm.line("clear")
	tm.expect(`^ready>$`)
}

// TestJobControl: ^C, ^Z, fg, bg, ^D and ^\ on a terminal, as without alptrace.
func TestJobControl(t *testing.T) {
	s := newScene(t, "tmux")
	tm := newTerminal(s)

	tm.cat()
	tm.line("typed")
	tm.expect(`typed\ntyped\n?$`)
	tm.keys("C-c")
	tm.expect(`\^C\nready>$`)
	tm.line("echo status $?")
	tm.expect(`(?m)^status 130$`)
	tm.clear()

	tm.cat()
	tm.line("before")
	tm.expect(`before\nbefore\n?$`)
	tm.keys("C-z")
	tm.expect(`(?m)Stopped .*\nready>$`)
	tm.clear()
	tm.line("fg")
	tm.expect(`exec cat'\n?$`)
	time.Sleep(100 * time.Millisecond)
	tm.line("after")
	tm.expect(`after\nafter\n?$`)
	tm.keys("C-z")
	tm.expect(`(?m)Stopped .*\nready>$`)
	tm.line("fg; echo status $?")
	time.Sleep(100 * time.Millisecond)
	tm.line("again")
	tm.expect(`again\nagain\n?$`)
	tm.keys("C-d")
	tm.expect(`(?m)^status 0$`)
	tm.clear()

	tm.line(`$RUN bash -c 'trap "echo caught; exit 5" INT; echo up; while :; do sleep 0.1; done'; echo status $?`)
	tm.expect(`(?m)^up$`)
	tm.keys("C-c")
	tm.expect(`(?m)caught\nstatus 5$`)
	tm.clear()

	tm.line(`ulimit -c 0; $RUN sleep 50; echo status $?`)
	time.Sleep(300 * time.Millisecond)
	tm.keys(`C-\`)
	tm.expect(`(?m)^status 131$`)
	tm.clear()

	// In the background, then to the front.
	tm.line(`$RUN sh -c 'sleep 1; echo done here' &`)
	tm.expect(`> done here`)
	tm.notice(`(?m)Done `)
	tm.clear()
	tm.line(`$RUN cat &`)
	tm.notice(`(?m)Stopped `) // reads from the terminal: SIGTTIN
	tm.line(`fg`)
	time.Sleep(100 * time.Millisecond)
	tm.line(`front`)
	tm.expect(`front\nfront\n?$`)
	tm.keys("C-c")
	tm.expect(`\^C\nready>$`)
	tm.clear()
}

// TestInnerShell: an interactive shell under alptrace does its own job control.
func TestInnerShell(t *testing.T) {
	s := newScene(t, "tmux")
	tm := newTerminal(s)
	tm.line(`PS1='inner> ' $RUN bash --norc --noprofile -i`)
	tm.expect(`inner>$`)
	tm.line("sleep 100")
	time.Sleep(200 * time.Millisecond)
	tm.keys("C-z")
	tm.expect(`(?m)Stopped .*\ninner>$`)
	tm.line("jobs; fg")
	time.Sleep(200 * time.Millisecond)
	tm.keys("C-c")
	tm.expect(`inner>$`)
	tm.line("echo status $?; stty size; tty | cut -c1-8")
	tm.expect(`(?m)^status 130\n50 120\n/dev/pts$`)
	tm.tmux("resize-window", "-x", "100", "-y", "30")
	tm.line("stty size")
	tm.expect(`(?m)^30 100$`)
	tm.line("exit 4")
	tm.expect(`ready>$`)
	tm.line("echo status $?")
	tm.expect(`(?m)^status 4$`)
}

// TestHangup: when the terminal goes, the programs on it go.
func TestHangup(t *testing.T) {
	s := newScene(t, "tmux")
	if s.ns == nil {
		t.Skip("needs root: processes are found by their namespace")
	}
	tm := newTerminal(s)
	tm.line(`$RUN sh -c 'echo up; sleep 100'`)
	tm.expect(`(?m)^up$`)
	tm.tmux("kill-server")
	if left := s.ns.emptied(3 * time.Second); len(left) > 0 {
		t.Errorf("after the hangup: %v", left)
	}
}

package transcript

import "fmt"

// difference is a line in which a traced run must differ from a native one.
type difference struct {
	program string
	engine  string // empty: every engine
	native  string // the line as a native run prints it
	traced  string // the line in its place, "" for none
	why     string
}

// differences names every line that must differ. An entry that does not come
// true, on either side, is a failure: the table tells what is, not what was.
var differences = []difference{
	{
		program: "io_uring", native: "io_uring_setup: ok", traced: "io_uring_setup: ENOSYS",
		why: "the socket operations of io_uring pass by seccomp, so a program that could use it would leave the stack unseen",
	},
	{
		program: "mptcp", native: "socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP): ok",
		traced: "socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP): -1 EPROTONOSUPPORT",
		why:    "no engine has Multipath TCP; the errno is that of a kernel built without it, on which programs fall back to TCP",
	},
}

// expected is the transcript that a traced run must show.
func expected(program, engine string, native []string) ([]string, error) {
	want := append([]string{}, native...)
	for _, d := range differences {
		if d.program != program || d.engine != "" && d.engine != engine {
			continue
		}
		found := false
		var next []string
		for _, line := range want {
			switch {
			case line != d.native:
				next = append(next, line)
			default:
				found = true
				if d.traced != "" {
					next = append(next, d.traced)
				}
			}
		}
		if !found {
			return nil, fmt.Errorf("the table of differences has a line that no native run prints: %q (%s)", d.native, d.why)
		}
		want = next
	}
	return want, nil
}

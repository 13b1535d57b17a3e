package lab

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync"

	"github.com/alptrace/alptrace/lab/topo"
)

// output is where what the programs write goes, line by line.
type output struct {
	w      io.Writer
	width  int
	colour map[string]string // by host

	mu sync.Mutex
}

// colours of hosts, in their order, as ECMA-48 numbers them.
var colours = []string{"36", "33", "35", "32", "34", "31", "96", "93", "95", "92", "94", "91"}

func newOutput(w io.Writer, colour bool, hosts []*topo.Node) *output {
	o := &output{w: w, colour: map[string]string{}}
	for i, h := range hosts {
		for _, p := range h.Run {
			o.width = max(o.width, len(label(h, p.Name)))
		}
		if colour {
			o.colour[h.Name] = colours[i%len(colours)]
		}
	}
	return o
}

// label is what stands before a program's lines: its host's name, and its own
// if the host has several.
func label(h *topo.Node, program string) string {
	if len(h.Run) > 1 {
		return h.Name + "/" + program
	}
	return h.Name
}

// line writes a line of a program; b has no newline.
func (o *output) line(host, label string, b []byte) {
	if o.w == nil {
		return
	}
	var l bytes.Buffer
	name := fmt.Sprintf("%-*s", o.width, label)
	if c := o.colour[host]; c != "" {
		name = "\x1b[" + c + "m" + name + "\x1b[0m"
	}
	fmt.Fprintf(&l, "%s | %s\n", name, b)
	o.mu.Lock()
	defer o.mu.Unlock()
	_, _ = o.w.Write(l.Bytes()) // nobody is left to hear of it
}

// maxLine is the longest line that is kept together, in bytes.
const maxLine = 64 << 10

// pipe copies what a program writes to its log, and line by line to the output.
// done is called at its end.
func (o *output) pipe(r *os.File, log io.Writer, host, label string, done func()) {
	defer done()
	defer r.Close()
	var held []byte
	b := make([]byte, 32<<10)
	for {
		n, err := r.Read(b)
		_, _ = log.Write(b[:n]) // a full disk does not stop the lab
		held = append(held, b[:n]...)
		for {
			i := bytes.IndexByte(held, '\n')
			if i < 0 && len(held) >= maxLine {
				i = len(held)
			}
			if i < 0 {
				break
			}
			o.line(host, label, bytes.TrimSuffix(held[:i], []byte("\r")))
			held = held[min(i+1, len(held)):]
		}
		if err != nil {
			break
		}
	}
	if len(held) > 0 {
		o.line(host, label, held)
	}
}

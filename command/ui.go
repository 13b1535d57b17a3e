package command

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/step"
	"github.com/alptrace/alptrace/observe/ui"
	"github.com/alptrace/alptrace/tracer"
	"golang.org/x/sys/unix"
)

// page is what --ui serves. All methods of a nil page do nothing.
type page struct {
	server *ui.Server
	host   *ui.Host
	step   *step.Link // nil without a link
	ended  chan struct{}
}

// openPage begins to serve the page that --ui asks for, nil if it does not.
func openPage(o *options, log *slog.Logger) (*page, error) {
	if !o.ui.IsValid() {
		return nil, nil
	}
	title := clipTitle(strings.Join(o.argv, " "))
	s, err := ui.Listen(ui.Config{Addr: o.ui, Title: title, Log: log})
	if err != nil {
		return nil, fmt.Errorf("--ui: %w", err)
	}
	return &page{server: s, ended: make(chan struct{})}, nil
}

// clipTitle bounds a command line.
func clipTitle(s string) string {
	const most = 200
	if len(s) > most {
		return s[:most] + "..."
	}
	return s
}

// withStep puts the page's pause around a link, outside of the impairments.
func (n *network) withStep(o *options, l link.Link) link.Link {
	if n.page == nil || l == nil {
		return l
	}
	shown := n.page.server.NewLink(ui.LinkConfig{Name: n.net, Ends: [2]string{hostName, ""}})
	n.page.step = step.Wrap(l, step.Options{Passed: shown.Passed})
	shown.Attach(n.page.step, n.impair, o.impair)
	return n.page.step
}

// hostName is that of a run's only host.
const hostName = "alptrace"

// observer is the page as a tracer.Observer; it is nil, not a nil page, if there
// is none.
func (p *page) observer(o *options, n *network) tracer.Observer {
	if p == nil {
		return nil
	}
	p.host = p.server.NewHost(ui.HostConfig{Name: hostName, Program: clipTitle(strings.Join(o.argv, " ")), Stack: n.describe()})
	return p.host
}

// show begins to show what t serves, and says where. pid is the program's.
func (p *page) show(t *tracer.Tracer, pid func() int) {
	if p != nil {
		p.host.Attach(t, func() []int { return []int{pid()} })
		fmt.Fprintf(os.Stderr, "alptrace: the page is %s\n", p.server.URL())
	}
}

// resume lets a paused link go on once nobody is left who could: the program has
// ended, and what it sent waits.
func (p *page) resume() {
	if p == nil || p.step == nil {
		return
	}
	go func() {
		for {
			if !p.server.Watched() {
				p.step.Resume()
			}
			select {
			case <-p.ended:
				return
			case <-time.After(200 * time.Millisecond):
			}
		}
	}()
}

// drain waits until what was sent has passed the pause.
func (p *page) drain(ctx context.Context) {
	if p != nil && p.step != nil {
		_ = p.step.Drain(ctx)
	}
}

// close shows how the program ended, and ends the page.
func (p *page) close(status unix.WaitStatus) {
	if p == nil {
		return
	}
	close(p.ended)
	how := fmt.Sprintf("exit status %d", status.ExitStatus())
	if status.Signaled() {
		how = "killed by " + unix.SignalName(status.Signal())
	}
	p.server.Close(how)
}

package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/alptrace/alptrace/fdtable"
	"github.com/alptrace/alptrace/lab/lan"
	"github.com/alptrace/alptrace/lab/topo"
	"github.com/alptrace/alptrace/link/impair"
	"github.com/alptrace/alptrace/link/step"
	"github.com/alptrace/alptrace/observe/owner"
	"github.com/alptrace/alptrace/observe/tcplog"
	"github.com/alptrace/alptrace/observe/ui"
	"github.com/alptrace/alptrace/stack"
)

// Options of a run; the zero value works.
type Options struct {
	// Dir is the folder of the run's captures and logs, made if need be; "" is
	// NAME.lab in the working directory.
	Dir string
	// NoCapture leaves the captures out, which cost a write for every packet.
	NoCapture bool
	// NoLog leaves out what the connections and queues do, see observe/tcplog.
	NoLog bool
	// Page shows the run; nil is none. The caller closes it, after the lab.
	Page *ui.Server
	// Output gets what the programs write, each line behind the host's name;
	// nil is nobody. Colour colours the names.
	Output io.Writer
	Colour bool
	// Runtime is the folder of the control socket, by which exec, pcap and
	// status find the lab; "" is [RuntimeDir].
	Runtime string
	// Log gets diagnostics; nil is none.
	Log *slog.Logger
}

// Lab is a running lab.
type Lab struct {
	Topo    *topo.Lab
	Dir     string
	Hosts   []*Host // in the order of the file
	Routers []*Host
	Links   []*Link

	opts     Options
	log      *slog.Logger
	switches []*lan.Switch
	control  *control
	output   *output
	watch    *fdtable.Watch // of all programs
	started  time.Time
	files    []*os.File
	detach   []func() error
	queues   *tcplog.Log // nil: no impaired link, or no logs
	steps    []*step.Link

	mu       sync.Mutex
	programs []*Program // in the order in which they were started
	closed   bool
}

// Host is a host or a router: a stack.
type Host struct {
	Node   *topo.Node
	Engine stack.Engine
	Taps   []*tap          // by interface
	names  *names          // nil: a router's
	owners *owner.Registry // who has which socket, for captures; nil: a router's
	page   *ui.Host        // nil without a page
}

// Link is a link with its impairment: as the first of "between" sees it, so that
// impair.Out is from a to b.
type Link struct {
	Topo   *topo.Link
	Impair *impair.Link
}

// Up builds the network of a lab, and makes it known to exec, pcap and status.
// Programs are started by [Lab.Run]. ctx is for the building only.
func Up(ctx context.Context, t *topo.Lab, opts Options) (*Lab, error) {
	l := &Lab{Topo: t, Dir: opts.Dir, opts: opts, log: opts.Log, started: time.Now()}
	if l.log == nil {
		l.log = slog.New(slog.DiscardHandler)
	}
	if l.Dir == "" {
		l.Dir = t.Name + ".lab"
	}
	if err := l.up(ctx); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

func (l *Lab) up(ctx context.Context) error {
	if err := l.checkPrograms(); err != nil {
		return err
	}
	var err error
	if l.Dir, err = filepath.Abs(l.Dir); err != nil {
		return err
	}
	if err := os.MkdirAll(l.Dir, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(l.Dir, "lab.toml"), l.Topo.Text, 0o644); err != nil {
		return err
	}
	l.output = newOutput(l.opts.Output, l.opts.Colour, l.Topo.Hosts)
	// Whether another lab has the name is found before anything is built.
	if l.control, err = newControl(l); err != nil {
		return err
	}
	if l.watch, err = fdtable.NewWatch(); err != nil {
		return err
	}
	if err := l.build(); err != nil {
		return err
	}
	go l.control.serve()
	return ctx.Err()
}

// Host is the host or router of a name, or nil.
func (l *Lab) Host(name string) *Host {
	for _, list := range [][]*Host{l.Hosts, l.Routers} {
		for _, h := range list {
			if h.Node.Name == name {
				return h
			}
		}
	}
	return nil
}

// Link is the link of a name, or nil.
func (l *Lab) Link(name string) *Link {
	for _, k := range l.Links {
		if k.Topo.Name == name {
			return k
		}
	}
	return nil
}

// Programs are all that were started so far, exec's included.
func (l *Lab) Programs() []*Program {
	l.mu.Lock()
	defer l.mu.Unlock()
	return append([]*Program(nil), l.programs...)
}

// Close ends what still runs, and the network.
func (l *Lab) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return nil
	}
	l.closed = true
	l.mu.Unlock()
	if l.control != nil {
		l.control.close()
	}
	l.endPrograms(true)
	var errs []error
	for _, list := range [][]*Host{l.Hosts, l.Routers} {
		for _, h := range list {
			if h.names != nil {
				h.names.close()
			}
			errs = append(errs, h.Engine.Close())
		}
	}
	for _, s := range l.switches {
		errs = append(errs, s.Close())
	}
	for _, d := range l.detach {
		errs = append(errs, d())
	}
	for _, f := range l.files {
		errs = append(errs, f.Close())
	}
	if l.watch != nil {
		l.watch.Close()
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("end lab %s: %w", l.Topo.Name, err)
	}
	return nil
}

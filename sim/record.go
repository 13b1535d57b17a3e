package sim

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/alptrace/alptrace/lab/topo"
	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/capture"
	"github.com/alptrace/alptrace/observe/tcplog"
	"github.com/alptrace/alptrace/stack"
	"github.com/alptrace/alptrace/stack/netstack"
)

// Recorder writes what happens in a simulation into a folder, all in virtual
// time, which begins at [Epoch]:
//
//   - NODE-ethN.pcapng: the packets at each interface of a host or router
//   - HOST.tcp.jsonl: what the host's TCP connections do (docs/tcp-log.md)
//   - queues.jsonl: what waits in the impaired links, in the same format
type Recorder struct {
	dir    string
	clock  *Clock
	logs   map[string]*tcplog.Log
	queues *tcplog.Writer
	ends   []func() error // in the order in which to call them
	files  []*os.File
}

// Record makes the folder and has o's simulation written there. The caller
// closes the Recorder after the Sim. pcap and logs say what is wanted.
func (o *Options) Record(dir string, pcap, logs bool) (*Recorder, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, fmt.Errorf("folder of the simulation: %w", err)
	}
	r := &Recorder{dir: dir, logs: make(map[string]*tcplog.Log)}
	engine := o.Engine
	if engine == nil {
		engine = Netstack
	}
	o.Wrap = func(end *End, node *topo.Node) (link.Link, error) { return r.wrap(end, node, pcap, logs) }
	if !logs {
		return r, nil
	}
	o.Engine = func(name string, cfg netstack.Config) (stack.Engine, error) {
		cfg.Probe = true
		return engine(name, cfg)
	}
	o.Ready = func(h *Host) error {
		if p, ok := h.Engine.(stack.Prober); ok && r.logs[h.Name] != nil {
			p.Probe(r.logs[h.Name].Sample)
		}
		return nil
	}
	w, err := r.newLog("queues.jsonl", "", "")
	r.queues, o.Queues = w, w
	return r, err
}

// now is the time since the simulation began.
func (r *Recorder) now() time.Duration { return r.clock.now }

// wrap puts a capture and a log around an end of a wire.
func (r *Recorder) wrap(end *End, node *topo.Node, pcap, logs bool) (link.Link, error) {
	r.clock = end.out.clock
	if node.Kind == topo.Switch {
		return end, nil
	}
	var l link.Link = end
	if logs && node.Kind == topo.Host {
		g, err := r.hostLog(node.Name)
		if err != nil {
			return nil, err
		}
		l = g.Wrap(l)
	}
	if !pcap {
		return l, nil
	}
	name := node.Name
	for _, i := range node.Ifaces {
		if i.Link.Name == end.wire.Name {
			name += "-" + i.Name()
		}
	}
	f, err := r.create(name + ".pcapng")
	if err != nil {
		return nil, err
	}
	return capture.Wrap(l, f, capture.Options{
		Description: fmt.Sprintf("%s, link %s", name, end.wire.Name),
		Now:         func() time.Time { return Epoch.Add(r.clock.now) },
	})
}

// hostLog is the log of a host's connections.
func (r *Recorder) hostLog(host string) (*tcplog.Log, error) {
	if l := r.logs[host]; l != nil {
		return l, nil
	}
	w, err := r.newLog(host+".tcp.jsonl", host, "netstack")
	if err != nil {
		return nil, err
	}
	l := tcplog.New(w, tcplog.Options{Now: r.now, After: func(d time.Duration, f func()) { r.clock.At(r.clock.now+d, f) }})
	r.logs[host] = l
	return l, nil
}

func (r *Recorder) newLog(file, host, engine string) (*tcplog.Writer, error) {
	f, err := r.create(file)
	if err != nil {
		return nil, err
	}
	w := tcplog.NewWriter(f, tcplog.Header{Start: Epoch, Clock: tcplog.Virtual, Engine: engine, Host: host})
	r.ends = append(r.ends, w.Close)
	return w, nil
}

func (r *Recorder) create(name string) (*os.File, error) {
	f, err := os.Create(filepath.Join(r.dir, name))
	if err == nil {
		r.files = append(r.files, f)
	}
	return f, err
}

// Close ends the files, after the simulation was closed. The error is that of
// the first failed write of each.
func (r *Recorder) Close() error {
	var errs []error
	for _, f := range r.ends {
		errs = append(errs, f())
	}
	for _, f := range r.files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

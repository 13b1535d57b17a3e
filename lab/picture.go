package lab

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/alptrace/alptrace/observe/plot"
)

// mostDrawn is how many hosts' connections are in the picture of a run.
const mostDrawn = 6

// Draw makes a picture of the run out of its logs, in the lab's folder: what the
// connections of the hosts that sent most did, and the queues of the impaired
// links. It is for after [Lab.Close]. The name is "" if there is nothing to draw.
func (l *Lab) Draw() (name string, err error) {
	if l.opts.NoLog {
		return "", nil
	}
	var paths, labels []string
	for _, h := range l.senders() {
		paths = append(paths, filepath.Join(l.Dir, h.Node.Name+".tcp"))
		labels = append(labels, h.Node.Name)
	}
	if len(paths) == 0 {
		return "", nil
	}
	if l.queues != nil {
		paths, labels = append(paths, filepath.Join(l.Dir, QueueLog)), append(labels, "links")
	}
	p, err := plot.Load(paths, plot.Options{Labels: labels, Align: plot.AlignClock})
	if errors.Is(err, fs.ErrNotExist) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	name = filepath.Join(l.Dir, l.Topo.Name+".svg")
	f, err := os.Create(name)
	if err != nil {
		return "", err
	}
	return name, errors.Join(p.Write(f, plot.SVG), f.Close())
}

// senders are the hosts that have sent more than they received, those that sent
// most first.
func (l *Lab) senders() []*Host {
	type sender struct {
		*Host
		sent uint64
	}
	var all []sender
	for _, h := range l.Hosts {
		if s := h.Engine.Stats(); s.BytesOut > s.BytesIn {
			all = append(all, sender{h, s.BytesOut})
		}
	}
	slices.SortStableFunc(all, func(a, b sender) int { return cmp.Compare(b.sent, a.sent) })
	if len(all) > mostDrawn {
		all = all[:mostDrawn]
	}
	// The order of the file is the one to be read.
	var hosts []*Host
	for _, h := range l.Hosts {
		if slices.ContainsFunc(all, func(s sender) bool { return s.Host == h }) {
			hosts = append(hosts, h)
		}
	}
	return hosts
}

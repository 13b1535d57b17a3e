package lab

import (
	"os"
	"path/filepath"
	"time"

	"github.com/alptrace/alptrace/lab/topo"
	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/impair"
	"github.com/alptrace/alptrace/observe/owner"
	"github.com/alptrace/alptrace/observe/tcplog"
)

// QueueLog is the name of the log of the impaired links' queues in a lab's folder.
const QueueLog = "links.tcp"

// newLog begins a log in the lab's folder. host is whose connections it has; ""
// is nobody's.
func (l *Lab) newLog(name, host string, owners *owner.Registry) (*tcplog.Log, error) {
	f, err := os.Create(filepath.Join(l.Dir, name))
	if err != nil {
		return nil, err
	}
	l.files = append(l.files, f)
	w := tcplog.NewWriter(f, tcplog.Header{Start: l.started, Clock: tcplog.Wall, Engine: "netstack", Host: host})
	l.detach = append(l.detach, w.Close)
	return tcplog.New(w, tcplog.Options{Now: func() time.Duration { return time.Since(l.started) }, Owners: owners}), nil
}

// logQueue has the queues of an impaired link written down.
func (l *Lab) logQueue(t *topo.Link, w link.Link, q *impair.Link) (link.Link, error) {
	if l.opts.NoLog || t.AB.IsZero() && t.BA.IsZero() {
		return w, nil
	}
	if l.queues == nil {
		var err error
		if l.queues, err = l.newLog(QueueLog, "", nil); err != nil {
			return nil, err
		}
	}
	return l.queues.WrapQueues(w, q, t.Name), nil
}

// logHost begins the log of a host's connections; nil if there is none.
func (l *Lab) logHost(h *Host) (*tcplog.Log, error) {
	if l.opts.NoLog || h.Node.Kind != topo.Host {
		return nil, nil
	}
	return l.newLog(h.Node.Name+".tcp", h.Node.Name, h.owners)
}

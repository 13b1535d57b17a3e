package rootd

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/rootd/proto"
)

// Status is the state of the daemon as `rootd status --json` prints it. One who
// is not root sees their own leases only.
type Status struct {
	PID       int           `json:"pid"`
	Since     time.Time     `json:"since"`
	Grants    int           `json:"grants"` // of all, ports held back included
	MaxGrants int           `json:"max_grants"`
	MaxLeases int           `json:"max_leases"`
	HeldBack  int           `json:"held_back"` // TCP ports
	Leases    []LeaseStatus `json:"leases"`
}

// LeaseStatus is one lease.
type LeaseStatus struct {
	ID      uint32    `json:"id"`
	UID     uint32    `json:"uid"`
	PID     int32     `json:"pid"`
	Command string    `json:"command"` // as the kernel calls the client
	Program string    `json:"program"` // as the client calls itself
	Since   time.Time `json:"since"`
	Rule    string    `json:"rule"` // of the policy
	Device  string    `json:"device"`
	Ifindex int       `json:"ifindex"`
	MTU     int       `json:"mtu"`
	Waiting bool      `json:"waiting"` // to be resumed
	Grants  int       `json:"grants"`
	// Naked is how many grants have no socket of the kernel behind them
	// since another program took the port while no daemon ran.
	Naked int `json:"naked"`
	// Ports lists the grants, runs of ports as one: "tcp 0.0.0.0:80-82".
	Ports     []string          `json:"ports"`
	RxPackets uint64            `json:"rx_packets"`
	RxBytes   uint64            `json:"rx_bytes"`
	TxPackets uint64            `json:"tx_packets"`
	TxBytes   uint64            `json:"tx_bytes"`
	Drops     map[string]uint64 `json:"drops"` // packets, by reason
}

// Status returns the state, of the leases of uid only unless that is 0.
func (s *Server) Status(uid uint32) Status {
	st := Status{PID: os.Getpid(), Since: s.since, HeldBack: s.held.len(), Leases: []LeaseStatus{}}
	s.mu.Lock()
	st.Grants, st.MaxGrants, st.MaxLeases = s.grants, s.maxGrants(), s.access.Leases
	s.mu.Unlock()
	for _, l := range s.allLeases() {
		if ls, ok := s.leaseStatus(l, uid); ok {
			st.Leases = append(st.Leases, ls)
		}
	}
	slices.SortFunc(st.Leases, func(a, b LeaseStatus) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(a.ID, b.ID))
	})
	return st
}

func (s *Server) leaseStatus(l *lease, uid uint32) (LeaseStatus, bool) {
	l.mu.Lock()
	if l.ended || l.dev.Index == 0 || uid != 0 && l.peer.UID != uid {
		l.mu.Unlock()
		return LeaseStatus{}, false
	}
	ls := LeaseStatus{
		ID: l.id, UID: l.peer.UID, PID: l.peer.PID, Command: l.peer.Comm, Program: l.program, Since: l.since,
		Rule: l.rights.Rule, Device: l.dev.Name, Ifindex: l.dev.Index, MTU: l.dev.MTU, Waiting: l.conn == nil,
		Grants: len(l.grants), Naked: l.naked,
	}
	gs := l.all()
	c, err := s.cfg.Datapath.Counters(l.id)
	l.mu.Unlock()
	if err != nil {
		s.log.Warn("counters", "lease", l.id, "err", err)
	}
	ls.Ports = ranges(gs)
	ls.RxPackets, ls.RxBytes, ls.TxPackets, ls.TxBytes, ls.Drops = c.RxPackets, c.RxBytes, c.TxPackets, c.TxBytes, c.Drops
	return ls, true
}

// status serves proto.Status.
func (c *conn) status() (proto.Message, *os.File, error) {
	text, err := json.Marshal(c.s.Status(c.peer.UID))
	if err != nil {
		return nil, nil, err
	}
	fd, err := unix.MemfdCreate("rootd-status", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, nil, fmt.Errorf("memfd: %w", err)
	}
	f := os.NewFile(uintptr(fd), "rootd-status")
	_, err = f.Write(text)
	if err == nil {
		_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS,
			unix.F_SEAL_SEAL|unix.F_SEAL_SHRINK|unix.F_SEAL_GROW|unix.F_SEAL_WRITE)
	}
	if err != nil {
		closeFile(f)
		return nil, nil, fmt.Errorf("memfd: %w", err)
	}
	return proto.StatusReply{Size: clampU32(len(text))}, f, nil
}

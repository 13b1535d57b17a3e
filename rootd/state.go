package rootd

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/alptrace/alptrace/policy"
	"github.com/alptrace/alptrace/rootd/proto"
)

// The state files, in JSON: the leases at Config.State, written before a client
// learns of its lease, and beside it, with the suffix heldSuffix, the ports
// that are held back, written within a tick. Grants are not in them: the
// kernel's maps have those.
const (
	stateVersion = 1
	heldSuffix   = ".held"
	maxState     = 64 << 20 // bytes
)

type leaseState struct {
	Version int           `json:"version"`
	Boot    string        `json:"boot"` // the state of another boot is void
	Leases  []leaseRecord `json:"leases"`
}

type leaseRecord struct {
	ID      uint32    `json:"id"`
	Token   string    `json:"token"`
	UID     uint32    `json:"uid"`
	GIDs    []uint32  `json:"gids"`
	PID     int32     `json:"pid"`
	Comm    string    `json:"command"`
	Program string    `json:"program"`
	Device  string    `json:"device"`
	Index   int       `json:"ifindex"`
	MTU     int       `json:"mtu"`
	Since   time.Time `json:"since"`
}

type heldState struct {
	Version int          `json:"version"`
	Boot    string       `json:"boot"`
	Held    []heldRecord `json:"held"`
}

type heldRecord struct {
	Proto uint8      `json:"proto"`
	Addr  netip.Addr `json:"addr"`
	Port  uint16     `json:"port"`
	UID   uint32     `json:"uid"`
	Until time.Time  `json:"until"`
}

func bootID() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(id))
}

// record is l as the state file has it. Its lock is held, or nobody else knows
// it yet.
func (l *lease) record() leaseRecord {
	return leaseRecord{
		ID: l.id, Token: hex.EncodeToString(l.token[:]), UID: l.peer.UID, GIDs: l.peer.GIDs, PID: l.peer.PID,
		Comm: l.peer.Comm, Program: l.program, Device: l.dev.Name, Index: l.dev.Index, MTU: l.dev.MTU, Since: l.since,
	}
}

func (r leaseRecord) lease() (*lease, error) {
	p := peer{Peer: policy.Peer{UID: r.UID, GIDs: r.GIDs}, PID: r.PID, Comm: r.Comm}
	l := newLease(r.ID, p, r.Program)
	token, err := hex.DecodeString(r.Token)
	if err != nil || len(token) != proto.TokenLen || r.ID == 0 {
		return nil, fmt.Errorf("lease %d: bad record", r.ID)
	}
	copy(l.token[:], token)
	l.since = r.Since
	l.dev = Device{Name: r.Device, Index: r.Index, MTU: r.MTU}
	return l, nil
}

// saveLeases and saveHeld write the state files; a failure is logged, since the
// leases themselves are well.
func (s *Server) saveLeases() {
	if s.cfg.State == "" {
		return
	}
	s.stateMu.Lock()
	defer s.stateMu.Unlock()
	st := leaseState{Version: stateVersion, Boot: bootID()}
	s.mu.Lock()
	for _, r := range s.records {
		st.Leases = append(st.Leases, r)
	}
	s.mu.Unlock()
	s.save(s.cfg.State, st)
}

func (s *Server) saveHeld() {
	if s.cfg.State == "" {
		return
	}
	s.stateMu.Lock()
	defer s.stateMu.Unlock()
	st := heldState{Version: stateVersion, Boot: bootID()}
	for _, p := range s.held.list() {
		st.Held = append(st.Held, heldRecord{p.grant.Proto, p.grant.Addr, p.grant.Port, p.uid, p.until})
	}
	s.save(s.cfg.State+heldSuffix, st)
}

func (s *Server) save(path string, v any) {
	if err := writeFile(path, v); err != nil {
		s.log.Error("state not saved", "err", err)
	}
}

// writeFile replaces the file at once, so that no reader finds half of it.
func writeFile(path string, v any) (err error) {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return err
	}
	_, err = f.Write(append(text, '\n'))
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
	}
	return err
}

func (s *Server) removeState() {
	if s.cfg.State == "" {
		return
	}
	_ = os.Remove(s.cfg.State)
	_ = os.Remove(s.cfg.State + heldSuffix)
}

// readState reads a state file; none is no error.
func readState(path string, v any) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	if err := json.NewDecoder(io.LimitReader(f, maxState)).Decode(v); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// restore takes up what a former daemon left. State that cannot be read is
// given up with a word in the log: what the kernel has of it is removed.
func (s *Server) restore() error {
	var leases leaseState
	var held heldState
	if s.cfg.State != "" {
		if err := readState(s.cfg.State, &leases); err != nil {
			s.log.Error("leases of the last daemon are lost", "err", err)
			leases = leaseState{}
		}
		if err := readState(s.cfg.State+heldSuffix, &held); err != nil {
			s.log.Error("ports held back are lost", "err", err)
			held = heldState{}
		}
	}
	if boot := bootID(); leases.Version != stateVersion || leases.Boot != boot {
		leases.Leases = nil
	}
	if boot := bootID(); held.Version != stateVersion || held.Boot != boot {
		held.Held = nil
	}
	gs, strays := s.restoreLeases(leases.Leases)
	gs = append(gs, s.restoreHeld(held.Held)...)
	s.holdUnknown(gs)
	if len(gs) > 0 {
		if err := s.cfg.Guard.Add(gs); err != nil {
			return fmt.Errorf("rootd: guard: %w", err)
		}
	}
	for _, l := range strays {
		s.endLease(l, "not in the state file")
	}
	for _, l := range s.allLeases() {
		if l.conn == nil && l.dev.Index == 0 {
			s.endLease(l, "its device is gone")
		} else if !s.comply(l) {
			s.endLease(l, "policy")
		}
	}
	s.stale.Store(true)
	return nil
}

func (s *Server) restoreLeases(records []leaseRecord) (gs []Grant, strays []*lease) {
	kernel := s.cfg.Datapath.Leases()
	for _, r := range records {
		l, err := r.lease()
		if err != nil {
			s.log.Error("state", "err", err)
			continue
		}
		l.dev.Index = kernel[l.id] // 0 where it is not there
		delete(kernel, l.id)
		gs = append(gs, s.restoreLease(l)...)
	}
	for id, index := range kernel { // nobody knows whose
		l := newLease(id, peer{}, "")
		l.dev = Device{Index: index}
		gs = append(gs, s.restoreLease(l)...)
		strays = append(strays, l)
	}
	return gs, strays
}

// restoreLease enters l with its grants into the books.
func (s *Server) restoreLease(l *lease) []Grant {
	gs := s.cfg.Datapath.Grants(l.id)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rights = s.rightsOf(l.peer)
	s.mu.Lock()
	s.leases[l.id] = l
	if l.dev.Index > 0 {
		s.records[l.id] = l.record()
	}
	a := s.account(l.peer.UID)
	a.leases++
	a.grants += len(gs)
	s.grants += len(gs)
	s.mu.Unlock()
	for _, g := range gs {
		fd, _, err := bindDummy(g, l.dummiesAt(g.key()), true)
		if err != nil && !g.isEcho() {
			s.log.Error("port not taken up again, another program may have it", "lease", l.id, "port", g.String(), "err", err)
		}
		if g.isEcho() {
			_, _ = s.claimEcho(g.Port, l.id) // it was the lease's before
		}
		l.keep(g, fd)
	}
	s.log.Info("lease taken up", "lease", l.id, "uid", l.peer.UID, "pid", l.peer.PID, "grants", len(gs), "naked", l.naked)
	return gs
}

func (s *Server) restoreHeld(records []heldRecord) (gs []Grant) {
	now := time.Now()
	for _, r := range records {
		g := Grant{r.Proto, r.Addr, r.Port}
		if !r.Addr.IsValid() || g.valid() != nil || now.After(r.Until) {
			continue
		}
		fd, _, err := bindDummy(g, s.held.dummiesAt(g.key(), r.UID), true)
		if err != nil {
			continue // somebody has it
		}
		s.mu.Lock()
		s.account(r.UID).grants++
		s.grants++
		s.mu.Unlock()
		s.held.add(g, fd, r.UID, minTime(r.Until, now.Add(s.cfg.HoldBack)))
		gs = append(gs, g)
	}
	return gs
}

// holdUnknown holds back the TCP ports that the guard has and nobody knows of,
// but those in known: their lease ended, or a grant was on its way, when the
// daemon was killed.
func (s *Server) holdUnknown(known []Grant) {
	wanted := make(map[Grant]bool, len(known))
	for _, g := range known {
		wanted[g] = true
	}
	var records []heldRecord
	var free []Grant
	for _, g := range s.cfg.Guard.Grants() {
		switch {
		case wanted[g]:
		case g.Proto == proto.TCP:
			records = append(records, heldRecord{g.Proto, g.Addr, g.Port, 0, time.Now().Add(s.cfg.HoldBack)})
			wanted[g] = true
		default:
			free = append(free, g)
		}
	}
	kept := map[Grant]bool{}
	for _, g := range s.restoreHeld(records) {
		kept[g] = true
	}
	for _, r := range records { // somebody has the port, and wants to hear
		if g := (Grant{r.Proto, r.Addr, r.Port}); !kept[g] {
			free = append(free, g)
		}
	}
	if len(free) == 0 {
		return
	}
	if err := s.cfg.Guard.Remove(free); err != nil {
		s.log.Error("guard", "err", err)
	}
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// rebind tries again to have dummies for grants without.
func (s *Server) rebind(l *lease) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.naked == 0 || l.ended {
		return
	}
	for g, fd := range l.grants {
		if fd != noDummy || g.isEcho() {
			continue
		}
		if fd, _, err := bindDummy(g, l.dummiesAt(g.key()), true); err == nil {
			l.grants[g] = fd
			l.naked--
			s.log.Info("port taken up again", "lease", l.id, "port", g.String())
		}
	}
}

package rootd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/policy"
)

// tick is how often the server looks after what time changes.
const tick = time.Second

// Server gives leases and grants. Locks are taken in this order: that of a
// lease, then mu; never those of two leases.
type Server struct {
	cfg      Config
	log      *slog.Logger
	maxFiles int
	since    time.Time
	host     atomic.Pointer[hostPorts]
	held     *holdback
	stale    atomic.Bool // the state files are behind
	stateMu  sync.Mutex  // one writer of them

	mu       sync.Mutex
	access   *policy.Access
	accounts map[uint32]*account // by user
	leases   map[uint32]*lease
	records  map[uint32]leaseRecord // of leases that have a device
	conns    map[*conn]struct{}
	echoes   map[uint16]echoClaim
	grants   int // held-back ports included
	stopped  bool
	wg       sync.WaitGroup // connections
}

// New makes a server for those whom access lets in, and takes up the leases
// that a daemon before it left: their dummies are bound again before it
// returns.
func New(cfg Config, access *policy.Access) (*Server, error) {
	if cfg.Datapath == nil || cfg.Guard == nil {
		return nil, errors.New("rootd: no datapath or no guard")
	}
	s := &Server{
		cfg: cfg.withDefaults(), access: access, since: time.Now(), maxFiles: cfg.MaxFiles,
		held: newHoldback(), accounts: map[uint32]*account{}, leases: map[uint32]*lease{},
		records: map[uint32]leaseRecord{}, conns: map[*conn]struct{}{}, echoes: map[uint16]echoClaim{},
	}
	s.log = s.cfg.Logger
	if s.maxFiles == 0 {
		s.maxFiles = fileLimit()
	}
	s.host.Store(readHostPorts())
	if err := s.restore(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	limit := s.maxGrants()
	s.mu.Unlock()
	s.log.Info("limits", "grants", limit, "open_files", s.maxFiles, "leases", access.Leases)
	return s, nil
}

// MaxGrants is how many grants there may be at a time: the policy's limit, or
// what the limit on open files leaves.
func (s *Server) MaxGrants() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.maxGrants()
}

// Serve answers those who connect to l, a SOCK_SEQPACKET listener, until ctx
// ends. Then it closes l and all connections and returns nil; leases stay for a
// daemon after this one. Call [Server.EndAll] to end them.
func (s *Server) Serve(ctx context.Context, l *net.UnixListener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.wg.Go(func() { s.look(ctx) })
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	var err error
	for {
		var c *net.UnixConn
		if c, err = l.AcceptUnix(); err != nil {
			if ctx.Err() != nil || !passing(err) {
				break
			}
			s.log.Error("accept", "err", err)
			time.Sleep(50 * time.Millisecond) // descriptors may come free
			continue
		}
		s.begin(c)
	}
	stopping := ctx.Err() != nil
	cancel()
	s.disconnectAll()
	s.wg.Wait()
	s.saveLeases()
	s.saveHeld()
	if stopping {
		return nil
	}
	return fmt.Errorf("rootd: accept: %w", err)
}

// passing reports whether an error of accept(2) may go away.
func passing(err error) bool {
	for _, e := range []unix.Errno{unix.EMFILE, unix.ENFILE, unix.ENOBUFS, unix.ENOMEM, unix.ECONNABORTED, unix.EPERM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// disconnectAll closes every connection and lets no more begin; the leases
// stay.
func (s *Server) disconnectAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stopped = true
	for c := range s.conns {
		_ = c.c.Close()
	}
}

// EndAll ends all leases and lets go of all ports. It is called after Serve.
func (s *Server) EndAll() {
	for _, l := range s.allLeases() {
		s.endLease(l, "rootd stops")
	}
	s.expireHeld(time.Time{}, true)
	s.removeState()
}

func (s *Server) allLeases() []*lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	ls := make([]*lease, 0, len(s.leases))
	for _, l := range s.leases {
		ls = append(ls, l)
	}
	return ls
}

func (s *Server) rightsOf(p peer) policy.Rights {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.access.For(p.Peer)
}

// look does what time brings, until ctx ends.
func (s *Server) look(ctx context.Context) {
	every := time.NewTicker(min(tick, s.cfg.HoldBack/2, s.cfg.Grace/2))
	defer every.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-every.C:
			s.host.Store(readHostPorts())
			s.expireHeld(now, false)
			s.endUnresumed(now)
			for _, l := range s.allLeases() {
				s.flush(l)
				s.rebind(l)
			}
			if s.stale.Swap(false) {
				s.saveLeases()
				s.saveHeld()
			}
			s.mu.Lock()
			s.tidyAccounts()
			s.mu.Unlock()
		}
	}
}

// endUnresumed ends leases of a former daemon for which nobody came.
func (s *Server) endUnresumed(now time.Time) {
	if now.Sub(s.since) < s.cfg.Grace {
		return
	}
	for _, l := range s.allLeases() {
		l.mu.Lock()
		waiting := l.conn == nil && !l.ended
		l.mu.Unlock()
		if waiting {
			s.endLease(l, "not resumed")
		}
	}
}

func closeFile(f *os.File) {
	if f != nil {
		_ = f.Close()
	}
}

// CloseDummies closes the sockets behind all grants and nothing else, as the end
// of the process does. It is called after Serve, by tests that run one server
// after another.
func (s *Server) CloseDummies() {
	for _, l := range s.allLeases() {
		l.mu.Lock()
		for g, fd := range l.grants {
			closeFD(fd)
			l.grants[g] = noDummy
		}
		l.mu.Unlock()
	}
	for _, p := range s.held.take(func(heldPort) bool { return true }) {
		closeFD(p.fd)
		s.held.add(p.grant, noDummy, p.uid, p.until)
	}
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/policy"
	"github.com/alptrace/alptrace/rootd"
	"github.com/alptrace/alptrace/rootd/datapath"
	"github.com/alptrace/alptrace/rootd/guard"
)

// mapRoom is how many grants the datapath's map has room for: the ports of one
// protocol in both families, or one family of two.
const mapRoom = 1 << 17

// daemon runs until ctx ends, and then leaves nothing behind; or until SIGUSR2,
// and then leaves all in place for another to take up.
func daemon(ctx context.Context, o *options) error {
	log := logger(o)
	access, err := load(o)
	if err != nil {
		return err
	}
	held, err := lock(o.socket)
	if err != nil {
		return err
	}
	defer func() { _ = held.Close() }()
	files, err := rootd.RaiseFileLimit()
	if err != nil {
		return err
	}
	d, err := datapath.Open(datapath.Config{PinDir: o.pins, Prefix: o.prefix, MaxGrants: mapRoom, Logger: log})
	if err != nil {
		return fmt.Errorf("%w (without rootd, alptrace --net relay works)", err)
	}
	g, err := guard.Open(guard.Config{Table: o.table})
	if err != nil {
		return errors.Join(err, d.Detach())
	}
	trailing := rootd.NewTrailing(silence{g}, log)
	s, err := rootd.New(rootd.Config{
		Datapath: paths{d}, Guard: trailing, Logger: log, State: o.state, MaxFiles: files, Room: mapRoom,
	}, access)
	if err != nil {
		return errors.Join(err, d.Detach())
	}
	leave, err := serve(ctx, o, s, log)
	if leave || err != nil && len(s.Status(0).Leases) > 0 {
		log.Info("rootd ends; leases wait for the next one")
		trailing.Close()
		return errors.Join(err, d.Detach())
	}
	s.EndAll()
	trailing.Close()
	log.Info("rootd ends; nothing is left")
	return errors.Join(err, g.Close(), d.Destroy(), os.Remove(held.Name()))
}

// serve listens until it is told to stop; leave means that another daemon will
// come.
func serve(ctx context.Context, o *options, s *rootd.Server, log *slog.Logger) (leave bool, err error) {
	l, err := listen(o.socket)
	if err != nil {
		return false, err
	}
	if err := dropCapabilities(); errors.Is(err, unix.ENOTSUP) {
		log.Warn("capabilities are not dropped: this program is built with cgo")
	} else if err != nil {
		return false, errors.Join(fmt.Errorf("drop capabilities: %w", err), l.Close())
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, unix.SIGHUP, unix.SIGUSR2)
	defer signal.Stop(signals)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case sig := <-signals:
				if sig == unix.SIGUSR2 {
					leave = true
					cancel()
					return
				}
				reload(o, s, log)
			}
		}
	})
	if err := notify("READY=1"); err != nil {
		log.Warn("service manager", "err", err)
	}
	log.Info("rootd listens", "socket", o.socket, "grants", s.MaxGrants())
	err = s.Serve(ctx, l)
	cancel()
	wg.Wait()
	_ = notify("STOPPING=1")
	return leave, err
}

// reload reads the policy again; a bad one changes nothing.
func reload(o *options, s *rootd.Server, log *slog.Logger) {
	access, err := load(o)
	if err != nil {
		log.Error("policy not reloaded, the old one holds", "err", err)
		return
	}
	s.Reload(access)
}

// load reads the policy. The one of the default name need not exist.
func load(o *options) (*policy.Access, error) {
	fi, err := os.Stat(o.policy)
	if errors.Is(err, fs.ErrNotExist) && !o.policySet {
		return policy.DefaultAccess(), nil
	}
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	if st, ok := fi.Sys().(*syscall.Stat_t); ok && st.Uid != 0 || fi.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("policy: %s: others than root may write it", o.policy)
	}
	return policy.LoadAccess(o.policy)
}

func logger(o *options) *slog.Logger {
	opts := &slog.HandlerOptions{Level: o.logLevel}
	if os.Getenv("JOURNAL_STREAM") != "" { // the journal has the time
		opts.ReplaceAttr = func(groups []string, a slog.Attr) slog.Attr {
			if len(groups) == 0 && a.Key == slog.TimeKey {
				return slog.Attr{}
			}
			return a
		}
	}
	if o.logFormat == "json" {
		return slog.New(slog.NewJSONHandler(os.Stderr, opts))
	}
	return slog.New(slog.NewTextHandler(os.Stderr, opts))
}

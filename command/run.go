package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"time"

	"github.com/alptrace/alptrace/tracer"
	"github.com/alptrace/alptrace/tracer/launch"
	"golang.org/x/sys/unix"
)

// drainLimit bounds how long alptrace goes on after the last process has ended,
// for what was written but not acknowledged: a kernel gives up on an orphaned
// connection after about as long (tcp(7), tcp_orphan_retries).
const drainLimit = 100 * time.Second

// run runs the program and returns its status when it, all its descendants and
// all that they sent are done.
func run(o *options) (unix.WaitStatus, error) {
	log := logger(o)
	pg, err := openPage(o, log)
	if err != nil {
		return 0, err
	}
	rec, err := openRecorder(o, log)
	if err != nil {
		return 0, err
	}
	p, err := launch.Start(launch.Config{Argv: o.argv, Logger: log})
	if err != nil {
		return 0, err
	}
	// The stack is set up while the guard gets the program ready.
	n, err := newNetwork(o, pg, rec, log)
	if err != nil {
		return 0, err
	}
	defer n.close()
	fd, err := p.Listener()
	if errors.Is(err, launch.ErrEnded) {
		return p.Wait()
	}
	if err != nil {
		return 0, err
	}
	cfg := tracer.Config{Listener: fd, Engine: n.engine, Log: log, Warn: warn, Redirect: n.redirect, Observer: pg.observer(o, n), Owners: rec.registry()}
	if o.stats {
		cfg.Stats = tracer.NewStats()
	}
	if o.trace != "" {
		w, err := traceFile(o.trace)
		if err != nil {
			return 0, err
		}
		defer w.Close()
		cfg.Trace = tracer.NewTrace(w)
	}
	t, err := tracer.New(cfg)
	if err != nil {
		return 0, err
	}
	pg.show(t, p.Pid)
	served := make(chan error, 1)
	go func() { served <- t.Serve() }()
	if err := p.Run(); err != nil {
		if errors.Is(err, launch.ErrEnded) {
			return p.Wait()
		}
		return 0, err
	}
	status, err := p.Wait()
	if err != nil {
		return 0, err
	}
	if err := <-served; err != nil {
		return 0, err
	}
	pg.resume()
	ctx, cancel := context.WithTimeout(context.Background(), drainLimit)
	defer cancel()
	t.Drain(ctx)
	n.drain(ctx)
	pg.close(status)
	if o.stats {
		report(os.Stderr, cfg.Stats, t, n)
	}
	return status, nil
}

func logger(o *options) *slog.Logger {
	if !o.debug {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
}

func warn(line string) { fmt.Fprintf(os.Stderr, "alptrace: %s\n", line) }

func traceFile(name string) (io.WriteCloser, error) {
	if name == noValue {
		return struct {
			io.Writer
			io.Closer
		}{os.Stderr, io.NopCloser(nil)}, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, fmt.Errorf("--trace: %w", err)
	}
	return f, nil
}

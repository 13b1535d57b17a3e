package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/bench/result"
)

// chunk is how much one read or write of a bulk transfer asks for, bytes.
const chunk = 64 << 10

// source writes for o.time, then closes.
func source(o *options) (result.Load, error) {
	fd, err := o.open()
	if err != nil {
		return result.Load{}, err
	}
	buf := make([]byte, chunk)
	var r result.Load
	start := time.Now()
	for time.Since(start) < o.time {
		n, err := write(fd, buf)
		if err != nil {
			return r, fmt.Errorf("write: %w", err)
		}
		r.Bytes += int64(n)
	}
	r.Seconds = time.Since(start).Seconds()
	closeFD(fd)
	return r, nil
}

// sink reads to the end of the stream, and times from the first bytes on.
func sink(o *options) (result.Load, error) {
	fd, err := o.open()
	if err != nil {
		return result.Load{}, err
	}
	buf := make([]byte, chunk)
	var r result.Load
	var start time.Time
	for {
		n, err := read(fd, buf)
		if err != nil {
			return r, fmt.Errorf("read: %w", err)
		}
		if n == 0 {
			break
		}
		if start.IsZero() {
			start = time.Now()
		}
		r.Bytes += int64(n)
	}
	if start.IsZero() {
		return r, errors.New("the stream ended before the first byte")
	}
	r.Seconds = time.Since(start).Seconds()
	return r, nil
}

// ping sends one byte and waits for one, for o.time, after a tenth of that to
// warm up.
func ping(o *options) (result.Load, error) {
	fd, err := o.open()
	if err != nil {
		return result.Load{}, err
	}
	if err := setInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return result.Load{}, fmt.Errorf("set TCP_NODELAY: %w", err)
	}
	trips := make([]float64, 0, 1<<20)
	b := make([]byte, 1)
	begin := time.Now()
	warm := o.time / 10
	last := begin
	for last.Sub(begin) < o.time+warm && len(trips) < cap(trips) {
		if _, err := write(fd, b); err != nil {
			return result.Load{}, fmt.Errorf("write: %w", err)
		}
		if err := readByte(fd, b); err != nil {
			return result.Load{}, fmt.Errorf("read: %w", err)
		}
		now := time.Now()
		if now.Sub(begin) > warm {
			trips = append(trips, float64(now.Sub(last)))
		}
		last = now
	}
	if len(trips) == 0 {
		return result.Load{}, fmt.Errorf("no round trip in %v", o.time)
	}
	slices.Sort(trips)
	return result.Load{
		Count:   int64(len(trips)),
		Seconds: o.time.Seconds(),
		P50:     trips[len(trips)/2],
		P99:     trips[len(trips)*99/100],
	}, nil
}

// echo sends every byte back until the stream ends.
func echo(o *options) (result.Load, error) {
	fd, err := o.open()
	if err != nil {
		return result.Load{}, err
	}
	if err := setInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
		return result.Load{}, fmt.Errorf("set TCP_NODELAY: %w", err)
	}
	var r result.Load
	b := make([]byte, 1)
	for {
		err := readByte(fd, b)
		if errors.Is(err, io.EOF) {
			return r, nil
		}
		if err != nil {
			return r, fmt.Errorf("read: %w", err)
		}
		if _, err := write(fd, b); err != nil {
			return r, fmt.Errorf("write: %w", err)
		}
		r.Count++
	}
}

// connClient makes o.count connections, o.threads at a time: connect, a byte
// each way, close.
func connClient(o *options) (result.Load, error) {
	sa, err := parseAddr(o.connect)
	if err != nil {
		return result.Load{}, err
	}
	var left atomic.Int64
	left.Store(int64(o.count))
	start := time.Now()
	err = parallel(o.threads, func() error {
		b := make([]byte, 1)
		for left.Add(-1) >= 0 {
			fd, err := dialTCP(sa)
			if err != nil {
				return err
			}
			if _, err := write(fd, b); err != nil {
				return fmt.Errorf("write: %w", err)
			}
			if err := readByte(fd, b); err != nil {
				return fmt.Errorf("read: %w", err)
			}
			closeFD(fd)
		}
		return nil
	})
	return result.Load{Count: int64(o.count), Seconds: time.Since(start).Seconds()}, err
}

// connServer serves o.count connections of connClient with o.threads threads
// on one listener. It ends the process itself, as its other threads may be
// waiting for a connection that will not come.
func connServer(o *options) (result.Load, error) {
	l, err := listenTCP(o.listen, 1024)
	if err != nil {
		return result.Load{}, err
	}
	ready()
	var served atomic.Int64
	err = parallel(o.threads, func() error {
		b := make([]byte, 1)
		for {
			fd, err := accept(l)
			if err != nil {
				return fmt.Errorf("accept: %w", err)
			}
			if err := readByte(fd, b); err != nil {
				return fmt.Errorf("read: %w", err)
			}
			if _, err := write(fd, b); err != nil {
				return fmt.Errorf("write: %w", err)
			}
			if err := readByte(fd, b); !errors.Is(err, io.EOF) {
				return fmt.Errorf("read after the last byte: %w, want the end", err)
			}
			closeFD(fd)
			if served.Add(1) == int64(o.count) {
				fmt.Printf("{\"count\":%d}\n", o.count)
				os.Exit(0)
			}
		}
	})
	return result.Load{}, err
}

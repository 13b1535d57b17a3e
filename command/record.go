package command

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/capture"
	"github.com/alptrace/alptrace/observe/owner"
	"github.com/alptrace/alptrace/observe/tcplog"
	"github.com/alptrace/alptrace/stack"
	"github.com/spf13/pflag"
	"golang.org/x/sys/unix"
)

// recordFlags are --pcap, --pcap-size, --pcap-files and --tcp-log.
type recordFlags struct {
	pcap, pcapSize, tcpLog string
	pcapFiles              int
}

func (r *recordFlags) register(f *pflag.FlagSet) {
	f.StringVar(&r.pcap, "pcap", "", "write every packet in and out to `FILE` (pcapng); - is standard output, the program's then goes to standard error")
	f.StringVar(&r.pcapSize, "pcap-size", "", "begin a new capture file when one has `SIZE`, as 100MB: FILE, FILE1, FILE2...")
	f.IntVar(&r.pcapFiles, "pcap-files", 0, "with --pcap-size: keep the last `COUNT` files: FILE0, FILE1...")
	f.StringVar(&r.tcpLog, "tcp-log", "", "write what the TCP connections do to `FILE`, as JSON lines (docs/tcp-log.md); - is as with --pcap")
}

// records is what is written down of a run, by what the flags say.
type records struct {
	pcap, tcpLog string
	pcapSize     int64 // bytes; 0 is no limit
	pcapFiles    int   // 0 is no limit
}

// stdout is the name of standard output.
const stdout = "-"

// parse checks the flags as far as they concern only each other.
func (r *recordFlags) parse() (records, error) {
	rec := records{pcap: r.pcap, tcpLog: r.tcpLog, pcapFiles: r.pcapFiles}
	var err error
	switch {
	case r.pcapSize != "" && (r.pcap == "" || r.pcap == stdout):
		return rec, errors.New("--pcap-size needs --pcap FILE")
	case r.pcapFiles != 0 && r.pcapSize == "":
		return rec, errors.New("--pcap-files needs --pcap-size")
	case r.pcapFiles < 0:
		return rec, fmt.Errorf("--pcap-files %d: want how many files to keep", r.pcapFiles)
	case r.pcap == stdout && r.tcpLog == stdout:
		return rec, errors.New("--pcap and --tcp-log cannot both go to standard output")
	case r.pcapSize != "":
		if rec.pcapSize, err = parseSize(r.pcapSize); err != nil {
			return rec, fmt.Errorf("--pcap-size %q: %w", r.pcapSize, err)
		}
	}
	return rec, nil
}

// sizeUnits are the factors of sizes, the longest names first.
var sizeUnits = []struct {
	name   string
	factor float64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"kB", 1e3}, {"MB", 1e6}, {"GB", 1e9}, {"B", 1}, {"", 1}}

func parseSize(s string) (int64, error) {
	for _, u := range sizeUnits {
		number, ok := strings.CutSuffix(s, u.name)
		if !ok {
			continue
		}
		n, err := strconv.ParseFloat(number, 64)
		if err != nil || math.IsNaN(n) || n*u.factor < 1 || n*u.factor > 1<<50 {
			break
		}
		return int64(n * u.factor), nil
	}
	return 0, errors.New("want bytes, kB, MB, GB, KiB, MiB or GiB, as 100MB")
}

// recorder writes down what is to be seen of a run. A nil recorder writes
// nothing.
type recorder struct {
	comment string
	engine  string // its name
	owners  *owner.Registry
	log     *slog.Logger

	pcap, tcpLog         io.WriteCloser // nil: not asked for
	pcapLive, tcpLogLive bool           // somebody reads them meanwhile

	capture *capture.Link
	writer  *tcplog.Writer
	start   time.Time
	stopped bool
}

// openRecorder opens the files, before the program starts: it may find its
// standard output elsewhere.
func openRecorder(o *options, log *slog.Logger) (*recorder, error) {
	if o.rec.pcap == "" && o.rec.tcpLog == "" {
		return nil, nil
	}
	r := &recorder{comment: strings.Join(o.argv, " "), engine: o.engine, owners: owner.New(), log: log}
	if err := r.open(&o.rec); err != nil {
		r.closeFiles()
		return nil, err
	}
	return r, nil
}

func (r *recorder) open(rec *records) error {
	switch {
	case rec.pcapSize > 0:
		ring, err := capture.NewRing(rec.pcap, rec.pcapSize, rec.pcapFiles)
		if err != nil {
			return fmt.Errorf("--pcap: %w", err)
		}
		r.pcap = ring
	case rec.pcap != "":
		f, live, err := openRecord(rec.pcap)
		if err != nil {
			return fmt.Errorf("--pcap %w", err)
		}
		r.pcap, r.pcapLive = f, live
	}
	if rec.tcpLog != "" {
		f, live, err := openRecord(rec.tcpLog)
		if err != nil {
			return fmt.Errorf("--tcp-log %w", err)
		}
		r.tcpLog, r.tcpLogLive = f, live
	}
	return nil
}

// openRecord opens a file for writing. live says that somebody may read it
// meanwhile: it is no ordinary file.
func openRecord(name string) (f *os.File, live bool, err error) {
	if name == stdout {
		if f, err = takeStdout(); err != nil {
			return nil, false, fmt.Errorf("-: %w", err)
		}
	} else if f, err = os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o666); err != nil {
		return nil, false, err
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, false, err
	}
	return f, !st.Mode().IsRegular(), nil
}

// takeStdout gives standard output to alptrace, and the program, which is yet to
// be started, standard error in its place.
func takeStdout() (*os.File, error) {
	if _, err := unix.IoctlGetTermios(unix.Stdout, unix.TCGETS); err == nil {
		return nil, errors.New("standard output is a terminal; give a file, or a pipe, as in: alptrace --pcap - PROG | tshark -i -")
	}
	fd, err := unix.FcntlInt(uintptr(unix.Stdout), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "standard output")
	if err := unix.Dup3(unix.Stderr, unix.Stdout, 0); err != nil {
		f.Close()
		return nil, err
	}
	st, err := f.Stat()
	if err != nil || st.Mode()&os.ModeNamedPipe == 0 {
		return f, nil //nolint:nilerr // what is no pipe is used as it is
	}
	// An open file of our own, so that not to wait for a slow reader is nobody
	// else's matter.
	own, err := os.OpenFile(fmt.Sprintf("/proc/self/fd/%d", fd), os.O_WRONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return f, nil //nolint:nilerr // as above
	}
	f.Close()
	return own, nil
}

// wants says whether the engine is to tell of its connections.
func (r *recorder) wants() bool { return r != nil && r.tcpLog != nil }

// wrap puts the capture and the log around a link, which may be nil.
func (r *recorder) wrap(l link.Link, n *network) (link.Link, error) {
	if r == nil || l == nil {
		return l, nil
	}
	if r.pcap != nil {
		c, err := capture.Wrap(l, r.pcap, capture.Options{
			Comment: r.comment, Description: "--net " + n.net,
			Owners: r.owners, Live: r.pcapLive, Logger: r.log,
		})
		if err != nil {
			return nil, fmt.Errorf("--pcap: %w", err)
		}
		r.capture, l = c, c
	}
	if r.tcpLog != nil {
		r.start = time.Now()
		h := tcplog.Header{Start: r.start, Clock: tcplog.Wall, Engine: r.engine}
		h.Host, _ = os.Hostname()
		begin := tcplog.NewWriter
		if r.tcpLogLive {
			begin = tcplog.NewLiveWriter
		}
		r.writer = begin(r.tcpLog, h)
		n.tcpLog = tcplog.New(r.writer, tcplog.Options{
			Now:    func() time.Duration { return time.Since(r.start) },
			Owners: r.owners,
		})
		k := n.tcpLog.Wrap(l)
		if n.impair != nil {
			n.tcpLog.Queues(k, n.impair)
		}
		l = k
	}
	return l, nil
}

// follow has the engine tell of its connections.
func (r *recorder) follow(n *network) {
	if p, ok := n.engine.(stack.Prober); ok && r.wants() && n.tcpLog != nil {
		p.Probe(n.tcpLog.Sample)
	}
}

// registry is who is told of the owners of sockets, nil if nobody.
func (r *recorder) registry() *owner.Registry {
	if r == nil {
		return nil
	}
	return r.owners
}

// close ends the files, after the engine, and tells what is wrong with them.
func (r *recorder) close() {
	if r == nil || r.stopped {
		return
	}
	r.stopped = true
	if r.writer != nil {
		err, lost := r.writer.Close(), r.writer.Lost()
		switch {
		case err != nil:
			warn(fmt.Sprintf("the log of --tcp-log ends early, without its last %d lines: %v", lost, err))
		case lost > 0:
			warn(fmt.Sprintf("%d lines are missing in the log of --tcp-log: they were not read in time", lost))
		}
	}
	if r.capture != nil {
		if err := r.capture.Err(); err != nil {
			warn(err.Error())
		}
	}
	r.closeFiles()
}

func (r *recorder) closeFiles() {
	for _, f := range []io.Closer{r.pcap, r.tcpLog} {
		if f != nil {
			f.Close()
		}
	}
}

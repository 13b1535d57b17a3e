package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/lab"
	"github.com/alptrace/alptrace/lab/topo"
	"github.com/alptrace/alptrace/observe/ui"
)

// upFlags are the flags of alplab up.
type upFlags struct {
	dir            string
	noPcap, noLog  bool
	quiet, noPlot  bool
	ui             string
	colour         string
	params         map[string]string
	debug, checked bool
}

func upCommand() *cobra.Command {
	var f upFlags
	c := &cobra.Command{
		Use:   "up FILE",
		Short: "run the real programs of a lab",
		Long: `up builds the network of FILE and runs the programs of its hosts on it, without
privilege. It ends when all but those in the background are done, and its status
is 0 if none of them failed. Captures, logs and a summary are left in a folder.`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return up(args[0], &f) },
	}
	c.Flags().StringVarP(&f.dir, "output", "o", "", "the `FOLDER` of captures and logs (default NAME.lab)")
	c.Flags().BoolVar(&f.noPcap, "no-pcap", false, "make no captures")
	c.Flags().BoolVar(&f.noLog, "no-log", false, "make no tcp-logs, and so no picture")
	c.Flags().BoolVar(&f.noPlot, "no-plot", false, "draw no picture at the end")
	c.Flags().StringVar(&f.ui, "ui", "", "serve a page that shows the run at `ADDR` of loopback: PORT, 127.0.0.1:PORT or [::1]:PORT (docs/ui.md)")
	c.Flags().BoolVarP(&f.quiet, "quiet", "q", false, "do not show what the programs write; their logs have it")
	c.Flags().StringVar(&f.colour, "color", "auto", "colour the hosts' names: auto, always or never")
	c.Flags().StringToStringVarP(&f.params, "set", "s", nil, "set a parameter of the file, as `NAME=VALUE` (repeatable)")
	c.Flags().BoolVarP(&f.checked, "check", "n", false, "only check the file, and print its nodes with their addresses")
	c.Flags().BoolVar(&f.debug, "debug", false, "log alplab's own workings to standard error")
	return c
}

func up(file string, f *upFlags) error {
	t, err := topo.Load(file, f.params)
	if err != nil {
		return complain(err)
	}
	if f.checked {
		printTopo(os.Stdout, t)
		return nil
	}
	opts := lab.Options{Dir: f.dir, NoCapture: f.noPcap, NoLog: f.noLog}
	if !f.quiet {
		opts.Output = os.Stdout
	}
	if opts.Colour, err = coloured(f.colour, os.Stdout); err != nil {
		return err
	}
	if f.debug {
		opts.Log = slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	if opts.Page, err = upPage(f.ui, t, opts.Log); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
	defer stop()
	context.AfterFunc(ctx, stop) // a second ^C ends alplab at once, and so the rest
	begun := time.Now()
	l, err := lab.Up(ctx, t, opts)
	if err != nil {
		return complain(err)
	}
	fmt.Fprintf(os.Stderr, "alplab: %s is up after %v: %d hosts, %d routers, %d switches, %d links\n", t.Name,
		time.Since(begun).Round(100*time.Microsecond), len(t.Hosts), len(t.Routers), len(t.Switches), len(t.Links))
	if opts.Page != nil {
		fmt.Fprintf(os.Stderr, "alplab: the page is %s\n", opts.Page.URL())
	}
	err = l.Run(ctx)
	s := l.Status()
	if opts.Page != nil {
		opts.Page.Close(howEnded(err))
	}
	if cerr := l.Close(); cerr != nil {
		fmt.Fprintf(os.Stderr, "alplab: %v\n", cerr)
	}
	if werr := summary(l.Dir, &s); werr != nil {
		fmt.Fprintf(os.Stderr, "alplab: %v\n", werr)
	}
	if !f.noPlot {
		picture, derr := l.Draw()
		if derr != nil {
			fmt.Fprintf(os.Stderr, "alplab: the picture: %v\n", derr)
		} else if picture != "" {
			fmt.Fprintf(os.Stderr, "alplab: what its connections did: %s\n", picture)
		}
	}
	fmt.Fprintf(os.Stderr, "alplab: %s has ended after %v; captures and logs are in %s\n", t.Name,
		time.Since(begun).Round(time.Millisecond), l.Dir)
	if errors.Is(err, lab.ErrInterrupted) {
		return exitCode(130)
	}
	return complain(err)
}

// upPage begins to serve the page of --ui; nil if there is none.
func upPage(addr string, t *topo.Lab, log *slog.Logger) (*ui.Server, error) {
	if addr == "" {
		return nil, nil
	}
	at, err := ui.ParseAddr(addr)
	if err != nil {
		return nil, fmt.Errorf("--ui: %w", err)
	}
	s, err := ui.Listen(ui.Config{Addr: at, Title: "lab " + t.Name, Log: log})
	if err != nil {
		return nil, fmt.Errorf("--ui: %w", err)
	}
	return s, nil
}

// howEnded is the end of a run in a few words.
func howEnded(err error) string {
	switch {
	case err == nil:
		return "all programs have ended"
	case errors.Is(err, lab.ErrInterrupted):
		return "interrupted"
	}
	return "programs failed"
}

// complain prints an error that has a place or several lines, as compilers do.
func complain(err error) error {
	var errs topo.Errors
	var failed lab.Failures
	switch {
	case errors.As(err, &errs):
		fmt.Fprintln(os.Stderr, errs)
		return exitCode(2)
	case errors.As(err, &failed):
		for _, f := range failed {
			fmt.Fprintf(os.Stderr, "alplab: %s: %s: %s\n", f.Host, f.Program, f.Reason)
		}
		return exitCode(1)
	}
	return err
}

// coloured says whether to colour what goes to f.
func coloured(when string, f *os.File) (bool, error) {
	switch when {
	case "always":
		return true, nil
	case "never":
		return false, nil
	case "auto":
		_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
		return err == nil && os.Getenv("NO_COLOR") == "", nil
	}
	return false, fmt.Errorf("--color %q: want auto, always or never", when)
}

// printTopo prints what a lab file means.
func printTopo(w io.Writer, t *topo.Lab) {
	for _, n := range t.Nodes() {
		fmt.Fprintf(w, "%s %s\n", n.Kind, n.Name)
		for _, i := range n.Ifaces {
			fmt.Fprintf(w, "    %s, link %s to %s, mtu %d:", i.Name(), i.Link.Name, i.Peer().Node.Name, i.Link.MTU)
			for _, a := range i.Addrs {
				fmt.Fprintf(w, " %s", a)
			}
			fmt.Fprintln(w)
		}
		for _, r := range n.Routes {
			fmt.Fprintf(w, "    to %s by %s\n", r.Dst, r.Via)
		}
		for _, p := range n.Run {
			fmt.Fprintf(w, "    runs %s: %q\n", p.Name, p.Argv)
		}
	}
}

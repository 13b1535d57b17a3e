// Command rootd lets users without privilege share the host's addresses with
// stacks of their own. See rootd(8).
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/policy"
)

// Exit statuses.
const (
	exitFailure = 1
	exitUsage   = 2
)

func main() {
	o, err := parse(os.Args[1:])
	switch {
	case errors.Is(err, errHelp):
		fmt.Print(usage())
		return
	case err != nil:
		fatal(exitUsage, err)
	}
	if err := o.run(); err != nil {
		fatal(exitFailure, err)
	}
}

func fatal(code int, err error) {
	fmt.Fprintf(os.Stderr, "rootd: %v\n", err)
	os.Exit(code)
}

func (o *options) run() error {
	switch {
	case o.version:
		fmt.Println(version())
		return nil
	case o.check != "":
		return check(os.Stdout, o.check)
	case o.status:
		return printStatus(os.Stdout, o.socket, o.json)
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	return daemon(ctx, o)
}

// check reads a policy and says what is wrong with it.
func check(w io.Writer, path string) error {
	if _, err := policy.LoadAccess(path); err != nil {
		return err
	}
	_, err := fmt.Fprintf(w, "%s: ok\n", path)
	return err
}

func version() string {
	v := "rootd (unknown version)"
	if info, ok := debug.ReadBuildInfo(); ok {
		v = fmt.Sprintf("rootd %s (%s)", info.Main.Version, info.GoVersion)
	}
	return v
}

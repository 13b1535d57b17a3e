// Package command is alptrace(1) as a function, for programs that are alptrace
// with something added, such as a congestion control of their own:
//
//	package main
//
//	import (
//		"github.com/alptrace/alptrace/command"
//
//		_ "example.com/mycc" // registers itself
//	)
//
//	func main() { command.Main() }
package command

import (
	"errors"
	"fmt"
	"os"
	"runtime"

	"github.com/alptrace/alptrace/tracer/launch"
)

// Main is alptrace with the arguments of the process, which it ends.
func Main() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(1)
	}
	opts, err := parse(os.Args[1:])
	switch {
	case errors.Is(err, errHelp):
		fmt.Print(usage())
		return
	case err != nil:
		fatal(2, err)
	case opts.genKey:
		fmt.Println(newKey())
		return
	case opts.version:
		fmt.Println(version())
		return
	}
	status, err := run(opts)
	if err != nil {
		code := 125
		var le *launch.Error
		if errors.As(err, &le) {
			code = le.ExitCode()
		}
		fatal(code, err)
	}
	launch.ExitLike(status)
}

func fatal(code int, err error) {
	fmt.Fprintf(os.Stderr, "alptrace: %v\n", err)
	os.Exit(code)
}

// Command demoreceivers helps scripts/demo-receivers.sh: it puts programs that use
// the kernel's TCP on a wire of alptraces, and draws the picture.
//
//	demoreceivers bridge -wire DIR -addr CIDR [-impair SPEC] [-pcap FILE] PROG ARG...
//	demoreceivers draw -o FILE [-to SECONDS] PANEL FILE=LABEL... [PANEL FILE=LABEL...]...
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
)

func main() {
	err := errors.New("want bridge or draw, and their flags")
	if len(os.Args) > 1 {
		f := flag.NewFlagSet(os.Args[1], flag.ExitOnError)
		switch os.Args[1] {
		case "bridge":
			var b bridge
			f.StringVar(&b.wire, "wire", "", "the wire's `folder`")
			f.StringVar(&b.addr, "addr", "", "the kernel's address, as `CIDR`")
			f.StringVar(&b.impair, "impair", "", "what the link is like, docs/impair.md")
			f.StringVar(&b.pcap, "pcap", "", "capture what the kernel sends and receives to `FILE`")
			_ = f.Parse(os.Args[2:])
			err = b.run(f.Args())
		case "draw":
			var d drawing
			f.StringVar(&d.out, "o", "", "the picture, .svg or .png")
			f.Float64Var(&d.most, "to", 0, "show this many `seconds`")
			_ = f.Parse(os.Args[2:])
			err = d.run(f.Args())
		}
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		os.Exit(exit.ExitCode())
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demoreceivers:", err)
		os.Exit(1)
	}
}

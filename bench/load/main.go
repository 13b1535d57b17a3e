// Command load puts one kind of load on one socket API: it is the program that
// the benchmark runs on both sides of every measurement, natively and under
// alptrace. It uses nothing but plain blocking calls (see sock.go), so that it
// behaves as a small C program would and yet builds with Go alone.
//
//	load KIND [-listen ADDR:PORT | -connect ADDR:PORT] [flags]
//
// A load that listens prints "ready" once it does. At its end a load prints one
// result.Load as a line of JSON.
//
// Run it with GODEBUG=asyncpreemptoff=1: Go's preemption signals would
// interrupt blocking calls every 10 ms.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/alptrace/alptrace/bench/result"
)

// options are the flags; each load reads those that mean something to it.
type options struct {
	listen  string
	connect string
	peer    string        // UDP: the fixed address of the other end
	time    time.Duration // how long to load
	count   int           // connections in all
	warm    int           // of them, how many before the first measurement of memory
	threads int           // threads doing the same at once
	size    int           // bytes of a datagram
	addr    bool          // UDP: sendto and recvfrom with an address
	call    string        // which system call to make
}

// loads are the kinds of load by name.
var loads = map[string]func(*options) (result.Load, error){
	"source":      source,
	"sink":        sink,
	"ping":        ping,
	"echo":        echo,
	"conn-client": connClient,
	"conn-server": connServer,
	"udp-source":  udpSource,
	"udp-sink":    udpSink,
	"hold-client": holdClient,
	"hold-server": holdServer,
	"calls":       calls,
}

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("usage: load KIND [flags]; kinds: " + strings.Join(kinds(), " "))
	}
	load, ok := loads[args[0]]
	if !ok {
		return fmt.Errorf("no load %q; kinds: %s", args[0], strings.Join(kinds(), " "))
	}
	var o options
	fs := flag.NewFlagSet(args[0], flag.ContinueOnError)
	fs.StringVar(&o.listen, "listen", "", "address and port to listen on")
	fs.StringVar(&o.connect, "connect", "", "address and port to connect to")
	fs.StringVar(&o.peer, "peer", "", "address and port of the other end (UDP)")
	fs.DurationVar(&o.time, "time", time.Second, "how long to load")
	fs.IntVar(&o.count, "n", 1000, "connections in all")
	fs.IntVar(&o.warm, "warm", 200, "connections before memory is first measured")
	fs.IntVar(&o.threads, "threads", 1, "threads at once")
	fs.IntVar(&o.size, "size", 64, "bytes of a datagram")
	fs.BoolVar(&o.addr, "addr", false, "give and take addresses with each datagram")
	fs.StringVar(&o.call, "call", "getppid", "system call to make: getppid, zero or getsockname")
	if err := fs.Parse(args[1:]); err != nil {
		return err
	}
	// A thread that blocks in a raw call keeps its P, and must never be
	// stopped by a collection of garbage that waits for it.
	runtime.GOMAXPROCS(o.threads + 2)
	debug.SetGCPercent(-1)

	r, err := load(&o)
	if err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	return json.NewEncoder(os.Stdout).Encode(r)
}

func kinds() []string {
	var names []string
	for name := range loads {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// ready tells whoever started this program that clients may come.
func ready() { say("ready") }

func say(word string) { fmt.Println(word) }

// await waits for a line on standard input.
func await(in *bufio.Reader) error {
	_, err := in.ReadString('\n')
	return err
}

// parallel runs f on n threads of their own and returns the first error.
func parallel(n int, f func() error) error {
	errs := make(chan error, n)
	for range n {
		go func() {
			runtime.LockOSThread()
			errs <- f()
		}()
	}
	var first error
	for range n {
		if err := <-errs; err != nil && first == nil {
			first = err
		}
	}
	return first
}

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/alptrace/alptrace/lab/topo"
	"github.com/alptrace/alptrace/sim"
)

// simOptions are the flags of alplab sim.
type simOptions struct {
	dir      string
	noPcap   bool
	noLogs   bool
	json     bool
	seed     uint64
	seeded   bool
	duration time.Duration
	set      []string
}

// simCommand runs a lab in virtual time; docs/sim.md.
func simCommand() *cobra.Command {
	var o simOptions
	c := &cobra.Command{
		Use:   "sim FILE",
		Short: "simulate a lab, with built-in traffic, in virtual time",
		Long: `sim builds the network of a lab file in one process, runs the traffic of its hosts
in virtual time, and prints what came out: goodput, retransmissions and round trip
times of each flow, utilisation and drops of each link, and a hash of all packets,
which is the same whenever the file and the seed are.`,
		Args: cobra.ExactArgs(1),
		Example: `  alplab sim dumbbell.toml
  alplab sim dumbbell.toml --seed 8 --set rate=50mbit --json
  alplab sim dumbbell.toml -o run && alplab plot run/client1.tcp.jsonl -o run.svg`,
		RunE: func(cmd *cobra.Command, args []string) error {
			o.seeded = cmd.Flags().Changed("seed")
			return runSim(cmd.OutOrStdout(), args[0], o)
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVarP(&o.dir, "output", "o", "", "write captures and logs, in virtual time, to this `FOLDER`")
	f.BoolVar(&o.noPcap, "no-pcap", false, "with -o: make no captures")
	f.BoolVar(&o.noLogs, "no-logs", false, "with -o: make no logs of connections and queues")
	f.BoolVar(&o.json, "json", false, "print the result as JSON")
	f.Uint64Var(&o.seed, "seed", 0, "instead of the file's")
	f.DurationVar(&o.duration, "duration", 0, "instead of the file's, as 30s of virtual time")
	f.StringArrayVar(&o.set, "set", nil, "`NAME=VALUE` of a parameter of the file (repeatable)")
	return c
}

func runSim(out io.Writer, file string, o simOptions) (err error) {
	params := make(map[string]string)
	for _, s := range o.set {
		name, value, ok := strings.Cut(s, "=")
		if !ok {
			return fmt.Errorf("--set %s: want NAME=VALUE", s)
		}
		params[name] = value
	}
	if o.seeded {
		params["seed"] = strconv.FormatUint(o.seed, 10)
	}
	lab, err := topo.Load(file, params)
	if err != nil {
		return err
	}
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(1) // hand-overs between goroutines cost less, and there is nothing else to do
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
	var so sim.Options
	if o.dir != "" {
		rec, err := so.Record(o.dir, !o.noPcap, !o.noLogs)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, rec.Close()) }()
	}
	s, err := sim.Load(lab, so)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	res, err := s.Run(o.duration)
	var p *sim.PanicError
	if errors.As(err, &p) {
		return fmt.Errorf("%w\n%s", err, p.Stack)
	} else if err != nil {
		return err
	}
	if o.json {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		err = e.Encode(res)
	} else {
		err = res.WriteText(out)
	}
	if err != nil {
		return err
	}
	for _, f := range res.Flows {
		if f.Error != "" || f.Corrupt != "" {
			return exitCode(1)
		}
	}
	return nil
}

package main

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/spf13/pflag"

	"github.com/alptrace/alptrace/rootd/proto"
)

const defaultPolicy = "/etc/alptrace/rootd.toml"

// options are what the command line asks for.
type options struct {
	status, json bool // rootd status [--json]
	check        string
	version      bool

	socket, policy, state string
	policySet             bool // a policy that is named has to exist
	pins, table, prefix   string
	logFormat             string
	logLevel              slog.Level
}

var errHelp = errors.New("help")

func flagSet(o *options, level *string, help *bool) *pflag.FlagSet {
	f := pflag.NewFlagSet("rootd", pflag.ContinueOnError)
	f.SortFlags = false
	f.Usage = func() {}
	f.StringVar(&o.socket, "socket", proto.DefaultSocket, "listen on, or ask at, the socket at `PATH`")
	f.StringVar(&o.policy, "policy", defaultPolicy, "who may have what: a TOML `FILE`; SIGHUP reads it again")
	f.StringVar(&o.check, "check", "", "say whether `FILE` is a good policy, and exit")
	f.BoolVar(&o.json, "json", false, "status: as JSON")
	f.StringVar(&o.state, "state", "", "keep what a restart needs in `FILE` (default: beside the socket)")
	f.StringVar(&o.pins, "pins", "/sys/fs/bpf/alptrace", "pin programs and maps in `DIR`, on a BPF file system")
	f.StringVar(&o.table, "table", "alptrace", "the `NAME` of the nftables table")
	f.StringVar(&o.prefix, "prefix", "alp", "what names of devices begin with: `NAME`, at most 5 bytes")
	f.StringVar(&o.logFormat, "log", "text", "log to standard error as `FORMAT`: text or json")
	f.StringVar(level, "log-level", "info", "least `LEVEL` to log: debug, info, warn or error")
	f.BoolVarP(help, "help", "h", false, "print this and exit")
	f.BoolVar(&o.version, "version", false, "print the version and exit")
	return f
}

func usage() string {
	f := flagSet(&options{}, new(string), new(bool))
	return "Usage: rootd [FLAG...]            share the host's addresses, until SIGTERM\n" +
		"       rootd status [--json]      what is shared with whom\n" +
		"       rootd --check FILE         check a policy\n\n" + f.FlagUsages()
}

func parse(args []string) (*options, error) {
	var o options
	var level string
	var help bool
	f := flagSet(&o, &level, &help)
	if err := f.Parse(args); err != nil {
		return nil, err
	}
	if help {
		return nil, errHelp
	}
	switch rest := f.Args(); {
	case len(rest) == 1 && rest[0] == "status":
		o.status = true
	case len(rest) > 0:
		return nil, fmt.Errorf("unknown command %q", strings.Join(rest, " "))
	}
	if o.json && !o.status {
		return nil, errors.New("--json is for status")
	}
	if f.Changed("check") && o.check == "" {
		return nil, errors.New("--check: no file")
	}
	if o.logFormat != "text" && o.logFormat != "json" {
		return nil, fmt.Errorf("--log %s: neither text nor json", o.logFormat)
	}
	if err := o.logLevel.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level: %w", err)
	}
	if o.state == "" {
		o.state = strings.TrimSuffix(o.socket, ".sock") + ".state"
	}
	o.policySet = f.Changed("policy")
	return &o, nil
}

package command

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"

	"github.com/spf13/pflag"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/stack"
	"github.com/alptrace/alptrace/stack/linux"
	"github.com/alptrace/alptrace/stack/linux/tree"
	"github.com/alptrace/alptrace/stack/netstack"
)

// linuxOptions are those of --engine linux=PATH and linux:DIR.
type linuxOptions struct {
	kernel  string // PATH; "" unless there is one
	tree    string // DIR
	sysctls []string
	modules []string
	klog    string
}

func linuxFlags(f *pflag.FlagSet, o *linuxOptions) {
	f.StringArrayVar(&o.sysctls, "sysctl", nil, "engine linux: set `NAME=VALUE`, as net.ipv4.tcp_congestion_control=bbr (repeatable)")
	f.StringArrayVar(&o.modules, "kernel-module", nil, "engine linux: load the module in `FILE`; parameters may follow it in the same word (repeatable)")
	f.StringVar(&o.klog, "klog", "", "engine linux: write the kernel's log to `FILE`, or to standard error")
	f.Lookup("klog").NoOptDefVal = noValue
}

// isLinux reports whether --engine is a Linux kernel.
func (o *options) isLinux() bool { return o.kernel != "" || o.tree != "" }

// checkLinux reads --engine, if it is one of Linux.
func (o *options) checkLinux() error {
	name, path, kernel := strings.Cut(o.engine, "=")
	if !kernel {
		name, path, _ = strings.Cut(o.engine, ":")
	}
	if name != "linux" {
		if len(o.sysctls)+len(o.modules) > 0 || o.klog != "" {
			return errors.New("--sysctl, --kernel-module and --klog are for --engine linux=PATH and linux:DIR")
		}
		return nil
	}
	if path == "" {
		return errors.New("--engine linux: want linux=PATH, a kernel built for ARCH=um, or linux:DIR, a kernel's source tree")
	}
	o.engine = "linux"
	if kernel {
		o.kernel = path
	} else {
		o.tree = path
	}
	return nil
}

// agreeLinux refuses what a kernel of one's own cannot do.
func (o *options) agreeLinux() error {
	switch {
	case !o.isLinux():
		return nil
	case o.tcp != "gvisor":
		return errors.New("--engine linux has a TCP of its own: --tcp does not apply")
	case o.net == "host":
		return errors.New("--engine linux cannot share the host's addresses: use --net relay, wire, tun or tap")
	}
	if o.net == "auto" {
		o.net = "relay"
	}
	return nil
}

// newLinux boots the kernel; cfg has what the links set.
func newLinux(o *options, l link.Link, cfg *netstack.Config, log *slog.Logger) (stack.Engine, error) {
	c := linux.Config{
		Kernel: o.kernel, Link: l, Addrs: cfg.Addrs, Gateways: cfg.Gateways,
		Sysctls: o.sysctls, Modules: o.modules, Logger: log,
		Failed: func(err error) { warn(err.Error()) },
	}
	if o.tree != "" {
		kernel, err := tree.Build(o.tree, os.Stderr)
		if err != nil {
			return nil, fmt.Errorf("--engine linux:%s: %w", o.tree, err)
		}
		c.Kernel = kernel
	}
	switch o.klog {
	case "":
	case noValue:
		c.Log = os.Stderr
	default:
		f, err := os.Create(o.klog)
		if err != nil {
			return nil, fmt.Errorf("--klog: %w", err)
		}
		c.Log = io.Writer(f)
	}
	e, err := linux.New(c)
	if err != nil {
		return nil, fmt.Errorf("--engine linux: %w", err)
	}
	return e, nil
}

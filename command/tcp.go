package command

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/alptrace/alptrace/stack/tcp"
	"github.com/alptrace/alptrace/stack/tcp/alptcp"
)

// tcpFlag registers --tcp.
func tcpFlag(f *pflag.FlagSet, spec *string) {
	f.StringVar(spec, "tcp", "gvisor", "the TCP of the stack, as `NAME`[,OPT=VALUE...]: gvisor, or alp, which is alptrace's own (cc=reno,ack=every,...)")
}

// checkTCP refuses a --tcp that newTCP could not make.
func (o *options) checkTCP() error {
	_, err := newTCP(o.tcp)
	if err == nil && o.engine == "host" && o.tcp != "gvisor" {
		return errors.New("--engine host has the host's own TCP: --tcp does not apply")
	}
	return err
}

// newTCP makes what --tcp says; nil is gVisor's.
func newTCP(spec string) (gstack.TransportProtocolFactory, error) {
	name, rest, more := strings.Cut(spec, ",")
	switch name {
	case "gvisor":
		if more {
			return nil, errors.New("--tcp gvisor takes no options")
		}
		return nil, nil
	case "alp":
	default:
		return nil, fmt.Errorf("--tcp %q: want gvisor or alp", spec)
	}
	cfg := tcp.NewConfig()
	for kv := range strings.SplitSeq(rest, ",") {
		if kv == "" {
			continue
		}
		k, v, _ := strings.Cut(kv, "=")
		if err := cfg.Set(k, v); err != nil {
			return nil, fmt.Errorf("--tcp alp: %w", err)
		}
	}
	return alptcp.Factory(cfg), nil
}

package command

import (
	"errors"
	"fmt"

	"github.com/spf13/pflag"
	gstack "gvisor.dev/gvisor/pkg/tcpip/stack"

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
	f, err := alptcp.Parse(spec)
	if err != nil {
		return nil, fmt.Errorf("--tcp %w", err)
	}
	return f, nil
}

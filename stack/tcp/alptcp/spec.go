package alptcp

import (
	"errors"
	"fmt"
	"strings"

	"gvisor.dev/gvisor/pkg/tcpip/stack"

	"github.com/alptrace/alptrace/stack/tcp"
)

// Parse makes what the flag --tcp says, NAME[,OPT=VALUE...]: nil for gVisor's TCP
// ("gvisor"), a factory for this one ("alp"), whose options are those of
// tcp.Config.Set.
func Parse(spec string) (stack.TransportProtocolFactory, error) {
	name, rest, more := strings.Cut(spec, ",")
	switch name {
	case "gvisor":
		if more {
			return nil, errors.New("gvisor takes no options")
		}
		return nil, nil
	case "alp":
	default:
		return nil, fmt.Errorf("%q: want gvisor or alp", spec)
	}
	cfg := tcp.NewConfig()
	for kv := range strings.SplitSeq(rest, ",") {
		if kv == "" {
			continue
		}
		k, v, _ := strings.Cut(kv, "=")
		if err := cfg.Set(k, v); err != nil {
			return nil, fmt.Errorf("alp: %w", err)
		}
	}
	return Factory(cfg), nil
}

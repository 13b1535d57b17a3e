package command

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/pflag"

	"github.com/alptrace/alptrace/stack/transport"
)

// mapFlag registers --map.
func mapFlag(f *pflag.FlagSet, spec *string) {
	f.StringVar(spec, "map", "", "sockets of TCP get another transport protocol, of your own: tcp=`NAME` (docs/tutorial-protocol.md)")
}

// checkMap reads --map.
func (o *options) checkMap(spec string) error {
	if spec == "" {
		return nil
	}
	from, name, _ := strings.Cut(spec, "=")
	if from != "tcp" {
		return fmt.Errorf("--map %q: want tcp=NAME", spec)
	}
	var names []string
	for _, p := range transport.Registered() {
		names = append(names, p.Name)
	}
	switch {
	case len(names) == 0:
		return fmt.Errorf("--map %s: no protocol is built in (alplab build --with FOLDER makes an alptrace that has one)", spec)
	case !slices.Contains(names, name):
		return fmt.Errorf("--map %s: want one of %s", spec, strings.Join(names, ", "))
	case o.engine == "host":
		return errors.New("--engine host has the host's own protocols: --map does not apply")
	case o.net == "auto" || o.net == "host" || o.net == "relay":
		return fmt.Errorf("--map: with --net %s the peers speak TCP; want wire:DIR, udp:LISTEN,PEER..., wg:FILE, tun:NAME, tap:NAME or none", o.net)
	}
	o.mapTCP = name
	return nil
}

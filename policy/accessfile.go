package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"
)

// maxPolicy bounds the size of a policy file, in bytes.
const maxPolicy = 1 << 20

// LoadAccess reads the policy file at path. Errors name the file and the line.
func LoadAccess(path string) (*Access, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	defer func() { _ = f.Close() }()
	text, err := io.ReadAll(io.LimitReader(f, maxPolicy+1))
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	a, err := ParseAccess(text, SystemNames{})
	if err != nil {
		return nil, fmt.Errorf("policy: %s: %w", path, err)
	}
	return a, nil
}

// Names finds users and groups.
type Names interface {
	UID(name string) (uint32, error)
	GID(name string) (uint32, error)
}

// SystemNames are the users and groups of this host.
type SystemNames struct{}

// UID returns the number of the user called name.
func (SystemNames) UID(name string) (uint32, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return 0, err
	}
	return parseID(u.Uid)
}

// GID returns the number of the group called name.
func (SystemNames) GID(name string) (uint32, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return 0, err
	}
	return parseID(g.Gid)
}

// parseID reads a user or group number; the last one means "no change" to
// setuid(2) and so names nobody.
func parseID(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 1<<32-1 {
		return 0, fmt.Errorf("bad id %q", s)
	}
	return uint32(n), nil
}

// The file as it is written.
type (
	accessFile struct {
		Limits  fileLimits `toml:"limits"`
		Default fileRights `toml:"default"`
		Access  []fileRule `toml:"access"`
	}
	fileLimits struct {
		Leases *limit `toml:"leases"`
		Grants *limit `toml:"grants"`
	}
	fileRule struct {
		Users  []principal `toml:"users"`
		Groups []principal `toml:"groups"`
		fileRights
	}
	fileRights struct {
		Deny   *bool         `toml:"deny"`
		Bind   []fileBinding `toml:"bind"`
		Reach  []prefix      `toml:"reach"`
		Leases *limit        `toml:"leases"`
		Grants *limit        `toml:"grants"`
		Rate   *limit        `toml:"rate"`
	}
	fileBinding struct {
		Protocols []protocol  `toml:"protocols"`
		Addresses []prefix    `toml:"addresses"`
		Ports     []portRange `toml:"ports"`
	}
)

// ParseAccess reads a policy. Unknown keys and names are errors; every error
// begins with the line that it is about.
func ParseAccess(text []byte, names Names) (*Access, error) {
	if len(text) > maxPolicy {
		return nil, fmt.Errorf("more than %d bytes", maxPolicy)
	}
	var f accessFile
	if err := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(&f); err != nil {
		return nil, placed(text, err)
	}
	a := DefaultAccess()
	f.Limits.Leases.set(&a.Leases)
	f.Limits.Grants.set(&a.Grants)
	f.Default.over(&a.fallback)
	lines := tableLines(text, "access")
	for i, r := range f.Access {
		where := fmt.Sprintf("rule %d", i+1)
		if i < len(lines) {
			where = fmt.Sprintf("line %d", lines[i])
		}
		rule, err := r.resolve(names)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", where, err)
		}
		rule.rights = a.fallback
		// A rule is not denied since the default is: it says who may.
		rule.rights.Deny = false
		r.over(&rule.rights)
		rule.rights.Rule = where
		a.rules = append(a.rules, rule)
	}
	return a, nil
}

// over puts what the file has over the rights that hold without it.
func (f *fileRights) over(r *Rights) {
	if f.Deny != nil {
		r.Deny = *f.Deny
	}
	if f.Bind != nil {
		base := defaultRights().Bind[0]
		r.Bind = []Binding{}
		for _, b := range f.Bind {
			r.Bind = append(r.Bind, b.binding(base))
		}
	}
	if f.Reach != nil {
		r.Reach = prefixes(f.Reach)
	}
	f.Leases.set(&r.Leases)
	f.Grants.set(&r.Grants)
	f.Rate.set(&r.Rate)
}

// binding takes from base what the file leaves out.
func (f *fileBinding) binding(base Binding) Binding {
	b := base
	if f.Protocols != nil {
		b.Protos = nil
		for _, p := range f.Protocols {
			b.Protos = append(b.Protos, p...)
		}
	}
	if f.Addresses != nil {
		b.Addresses = prefixes(f.Addresses)
	}
	if f.Ports != nil {
		b.Ports = nil
		for _, p := range f.Ports {
			b.Ports = append(b.Ports, Ports(p))
		}
	}
	return b
}

func prefixes(ps []prefix) []netip.Prefix {
	all := []netip.Prefix{}
	for _, p := range ps {
		all = append(all, p...)
	}
	return all
}

func (f *fileRule) resolve(names Names) (r accessRule, err error) {
	if len(f.Users)+len(f.Groups) == 0 {
		return r, errors.New("access rule without users and groups")
	}
	r.everyone = slices.Contains(f.Users, "*")
	if r.uids, err = ids(f.Users, names.UID); err != nil {
		return r, fmt.Errorf("users: %w", err)
	}
	if r.gids, err = ids(f.Groups, names.GID); err != nil {
		return r, fmt.Errorf("groups: %w", err)
	}
	if slices.Contains(f.Groups, "*") {
		return r, errors.New(`groups: "*" is for users`)
	}
	return r, nil
}

// ids resolves names; one of digits only is a number (as chown(1) has it, if
// nobody has that name).
func ids(ps []principal, lookup func(string) (uint32, error)) ([]uint32, error) {
	var all []uint32
	for _, p := range ps {
		if p == "*" {
			continue
		}
		id, err := lookup(string(p))
		if err != nil {
			n, bad := parseID(string(p))
			if bad != nil {
				return nil, err
			}
			id = n
		}
		all = append(all, id)
	}
	return all, nil
}

// Values of the file. Each reads itself, so that the decoder can say where a
// bad one stands.
type (
	principal string          // a name or a number, or * for everyone
	limit     struct{ n int } // a struct, since the decoder sets numbers itself
	protocol  []uint8
	prefix    []netip.Prefix
	portRange Ports
)

func (p *principal) UnmarshalText(text []byte) error {
	if len(text) == 0 {
		return errors.New("empty name")
	}
	*p = principal(text)
	return nil
}

// maxLimit keeps sums of limits far from overflow.
const maxLimit = 1 << 24

func (l *limit) UnmarshalText(text []byte) error {
	n, err := strconv.ParseUint(string(text), 10, 32)
	if err != nil || n > maxLimit {
		return numberError{string(text), fmt.Sprintf("limit %q is not a number from 0 to %d", text, maxLimit)}
	}
	l.n = int(n)
	return nil
}

func (l *limit) set(v *int) {
	if l != nil {
		*v = l.n
	}
}

func (p *protocol) UnmarshalText(text []byte) error {
	switch string(text) {
	case "tcp":
		*p = protocol{protoTCP}
	case "udp":
		*p = protocol{protoUDP}
	case "icmp": // echo, of both families
		*p = protocol{protoICMP, protoICMPv6}
	default:
		return fmt.Errorf("protocol %q is none of tcp, udp, icmp", text)
	}
	return nil
}

func (p *prefix) UnmarshalText(text []byte) error {
	s := string(text)
	if s == "any" {
		*p = defaultRights().Bind[0].Addresses
		return nil
	}
	if !strings.Contains(s, "/") {
		a, err := netip.ParseAddr(s)
		switch {
		case err != nil, a.Zone() != "", a.Is4In6():
			return fmt.Errorf("bad address %q", s)
		case a.IsUnspecified():
			return fmt.Errorf(`address %q: all addresses of the family are "%s/0"`, s, s)
		}
		*p = prefix{netip.PrefixFrom(a, a.BitLen())}
		return nil
	}
	n, err := netip.ParsePrefix(s)
	if err != nil || n.Addr().Is4In6() {
		return fmt.Errorf("bad network %q", s)
	}
	if n != n.Masked() {
		return fmt.Errorf("network %q has bits set beyond its length: %s is meant?", s, n.Masked())
	}
	*p = prefix{n}
	return nil
}

func (p *portRange) UnmarshalText(text []byte) error {
	s := string(text)
	switch s {
	case "unprivileged":
		*p = portRange{Unprivileged: true}
		return nil
	case "any":
		*p = portRange{First: 0, Last: 65535}
		return nil
	}
	first, last, isRange := strings.Cut(s, "-")
	if !isRange {
		last = first
	}
	a, err := strconv.ParseUint(first, 10, 16)
	b, err2 := strconv.ParseUint(last, 10, 16)
	if err != nil || err2 != nil || a > b {
		return numberError{s, fmt.Sprintf("bad port range %q", s)}
	}
	*p = portRange{First: uint16(a), Last: uint16(b)}
	return nil
}

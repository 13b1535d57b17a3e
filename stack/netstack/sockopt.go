package netstack

import (
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/stack"
)

// An option is a row in the table of its level. The tables say what Linux
// does: the default, the range, the rounding, the lengths, the errno.

// options are the values that differ from the defaults.
type options struct{ vals []optVal }

type optVal struct {
	v  int64
	id optID
}

// get gives the value of an option.
func (o *options) get(id optID) int64 {
	for i := range o.vals {
		if o.vals[i].id == id {
			return o.vals[i].v
		}
	}
	return defaults[id]
}

// has says whether the option has been set.
func (o *options) has(id optID) bool {
	return slices.ContainsFunc(o.vals, func(v optVal) bool { return v.id == id })
}

// set keeps a value.
func (o *options) set(id optID, v int64) {
	for i := range o.vals {
		if o.vals[i].id == id {
			o.vals[i].v = v
			return
		}
	}
	o.vals = append(o.vals, optVal{v: v, id: id})
}

// inherited gives the options that an accepted connection starts with: the
// listener's, as sk_clone_lock copies them.
func (o *options) inherited() options {
	return options{slices.Clone(o.vals)}
}

// target is the socket whose option is asked for; one of tcp and dgram is nil.
type target struct {
	*sock
	tcp   *tcpSock
	dgram *dgramSock
}

// option is a row of an option table. The zero row can neither be got nor set.
type option struct {
	on kind // the sockets that have it; 0 is all
	id optID

	// check turns the int given into the value to keep. Without check and set
	// the option cannot be set, and the answer is noSet.
	check func(t target, v int64) (int64, stack.Errno)
	set   func(t target, val []byte) stack.Errno
	noSet stack.Errno

	// read gives the value; without it, it is the value kept under id.
	read  func(t target) (int64, stack.Errno)
	get   func(t target, val []byte) (int, stack.Errno)
	noGet stack.Errno

	// early: set is called before the length is looked at.
	early bool
	// needByte: no value at all is EINVAL, where SOL_IP takes it as 0.
	needByte bool
	// noStream: streams cannot set it, whatever the value.
	noStream bool
	// anyLen: a value shorter than an int counts as 0, where SOL_IPV6 says EINVAL.
	anyLen bool
}

// find gives the row for an option of the socket; false if it has no such row.
func find(t target, level, name int) (option, bool) {
	var table map[int]option
	switch {
	case level == unix.SOL_SOCKET:
		table = socketOptions
	case level == unix.SOL_IP:
		table = ipOptions
	case level == unix.SOL_IPV6:
		table = ipv6Options
	case level == unix.SOL_TCP:
		table = tcpOptions
	case level == unix.SOL_UDP:
		table = udpOptions
	case level == unix.SOL_RAW && !t.is6():
		table = rawOptions
	case level == unix.SOL_RAW:
		table = rawOptions6
	case level == unix.SOL_ICMPV6:
		table = icmpv6Options
	}
	o, ok := table[name]
	if ok && o.on != 0 && o.on&t.kind == 0 {
		return option{}, false
	}
	return o, ok
}

// hasLevel says whether the socket has options of the level.
func hasLevel(t target, level int) bool {
	switch level {
	case unix.SOL_SOCKET:
		return true
	case unix.SOL_IP:
		return !t.is6() || t.kind != kindRaw
	case unix.SOL_IPV6:
		return t.is6()
	case unix.SOL_TCP:
		return t.proto == unix.IPPROTO_TCP && t.kind == kindTCP
	case unix.SOL_UDP:
		return t.kind == kindUDP
	case unix.SOL_RAW:
		return t.kind == kindRaw
	case unix.SOL_ICMPV6:
		return t.kind == kindRaw && t.is6()
	}
	return false
}

// setOption is setsockopt(2).
func setOption(t target, level, name int, val []byte) stack.Errno {
	if !hasLevel(t, level) {
		return unix.ENOPROTOOPT
	}
	if level == unix.SOL_ICMPV6 && t.proto != unix.IPPROTO_ICMPV6 {
		return unix.EOPNOTSUPP
	}
	o, ok := find(t, level, name)
	if ok && o.early {
		return o.set(t, val)
	}
	if ok && o.noStream && t.kind == kindTCP {
		return unix.ENOPROTOOPT
	}
	v, err := optionInt(t, level, &o, val)
	if err != 0 {
		return err
	}
	switch {
	case !ok:
		return unix.ENOPROTOOPT
	case o.set != nil:
		return o.set(t, val)
	case o.check == nil:
		if o.noSet == 0 {
			return unix.ENOPROTOOPT
		}
		return o.noSet
	}
	if v, err = o.check(t, v); err != 0 {
		return err
	}
	if o.id != optNone {
		t.opts.set(o.id, v)
		t.apply(o.id, v)
		if t.dgram != nil {
			return t.dgram.applyOwn(o.id, v)
		}
	}
	return 0
}

// optionInt reads the int that an option is set to, by the rules of its level
// for values that are too short.
func optionInt(t target, level int, o *option, val []byte) (int64, stack.Errno) {
	if len(val) >= 4 {
		return int64(int32(binary.NativeEndian.Uint32(val))), 0
	}
	switch level {
	case unix.SOL_IP: // a byte will do, nothing is 0
		if len(val) > 0 {
			return int64(val[0]), 0
		}
		if o.needByte {
			return 0, unix.EINVAL
		}
		return 0, 0
	case unix.SOL_IPV6:
		if (o.check != nil || o.set != nil || o.noSet == unix.EINVAL) && !o.anyLen {
			return 0, unix.EINVAL
		}
		return 0, 0
	case unix.SOL_RAW:
		if !t.is6() {
			return 0, 0
		}
	case unix.SOL_ICMPV6:
		return 0, 0
	}
	return 0, unix.EINVAL
}

// getOption is getsockopt(2).
func getOption(t target, level, name int, val []byte) (int, stack.Errno) {
	if !hasLevel(t, level) {
		if t.is6() {
			return 0, unix.ENOPROTOOPT
		}
		return 0, unix.EOPNOTSUPP
	}
	if level == unix.SOL_ICMPV6 && t.proto != unix.IPPROTO_ICMPV6 {
		return 0, unix.EOPNOTSUPP
	}
	o, ok := find(t, level, name)
	switch {
	case !ok:
		return 0, unix.ENOPROTOOPT
	case o.get != nil:
		return o.get(t, val)
	case o.noGet != 0:
		return 0, o.noGet
	}
	var v int64
	switch {
	case o.read != nil:
		var err stack.Errno
		if v, err = o.read(t); err != 0 {
			return 0, err
		}
	case o.id != optNone:
		v = t.opts.get(o.id)
	default:
		return 0, unix.ENOPROTOOPT
	}
	if level == unix.SOL_IP && len(val) > 0 && len(val) < 4 && v >= 0 && v <= 255 {
		val[0] = byte(v)
		return 1, 0
	}
	return putInt(val, v)
}

// putInt stores an int, as much of it as there is room for.
func putInt(val []byte, v int64) (int, stack.Errno) {
	var b [4]byte
	binary.NativeEndian.PutUint32(b[:], uint32(v))
	return copy(val, b[:]), 0
}

// putBytes stores bytes, as many as there is room for.
func putBytes(val, b []byte) (int, stack.Errno) { return copy(val, b), 0 }

// SetOption is setsockopt(2).
func (t *tcpSock) SetOption(level, name int, val []byte) stack.Errno {
	t.mu.Lock()
	defer t.mu.Unlock()
	return setOption(target{&t.sock, t, nil}, level, name, val)
}

// GetOption is getsockopt(2).
func (t *tcpSock) GetOption(level, name int, val []byte) (int, stack.Errno) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return getOption(target{&t.sock, t, nil}, level, name, val)
}

// SetOption is setsockopt(2).
func (d *dgramSock) SetOption(level, name int, val []byte) stack.Errno {
	d.mu.Lock()
	defer d.mu.Unlock()
	return setOption(target{&d.sock, nil, d}, level, name, val)
}

// GetOption is getsockopt(2).
func (d *dgramSock) GetOption(level, name int, val []byte) (int, stack.Errno) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return getOption(target{&d.sock, nil, d}, level, name, val)
}

// The checks that many options share.

// flag keeps whether the value is not 0.
func flag(_ target, v int64) (int64, stack.Errno) {
	if v != 0 {
		return 1, 0
	}
	return 0, 0
}

// asIs keeps the value.
func asIs(_ target, v int64) (int64, stack.Errno) { return v, 0 }

// within refuses values outside lo to hi.
func within(lo, hi int64) func(target, int64) (int64, stack.Errno) {
	return func(_ target, v int64) (int64, stack.Errno) {
		if v < lo || v > hi {
			return 0, unix.EINVAL
		}
		return v, 0
	}
}

// orDefault is within, but -1 stands for def.
func orDefault(lo, hi, def int64) func(target, int64) (int64, stack.Errno) {
	return func(_ target, v int64) (int64, stack.Errno) {
		if v == -1 {
			return def, 0
		}
		if v < lo || v > hi {
			return 0, unix.EINVAL
		}
		return v, 0
	}
}

// adminFlag is flag, but turning it on needs CAP_NET_ADMIN.
func adminFlag(t target, v int64) (int64, stack.Errno) {
	if v != 0 && !t.engine.admin {
		return 0, unix.EPERM
	}
	return flag(t, v)
}

// constant reads as v.
func constant(v int64) func(target) (int64, stack.Errno) {
	return func(target) (int64, stack.Errno) { return v, 0 }
}

// nothing reads as no bytes at all.
func nothing(target, []byte) (int, stack.Errno) { return 0, 0 }

// invalid answers every set with EINVAL.
func invalid(target, []byte) stack.Errno { return unix.EINVAL }

// privileged answers EPERM without CAP_NET_ADMIN, else err.
func privileged(err stack.Errno) func(target, []byte) stack.Errno {
	return func(t target, _ []byte) stack.Errno {
		if !t.engine.admin {
			return unix.EPERM
		}
		return err
	}
}

// privilegedGet answers every get with EPERM without CAP_NET_ADMIN, else EINVAL.
func privilegedGet(t target, _ []byte) (int, stack.Errno) {
	if !t.engine.admin {
		return 0, unix.EPERM
	}
	return 0, unix.EINVAL
}

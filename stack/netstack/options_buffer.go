package netstack

import (
	"encoding/binary"
	"math"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/stack"
)

// jiffies is CONFIG_HZ of the kernel imitated: the grain of SO_RCVTIMEO.
const jiffies = 250

// The least that SO_SNDBUF and SO_RCVBUF give (SOCK_MIN_SNDBUF, SOCK_MIN_RCVBUF).
const minSndBuf, minRcvBuf = 4608, 2304

// SO_RCVTIMEO_NEW and SO_SNDTIMEO_NEW, whose struct is the same on 64 bits.
const rcvTimeoNew, sndTimeoNew = 66, 67

func readSndBuf(t target) (int64, stack.Errno) {
	if t.opts.has(optSndBuf) {
		return t.opts.get(optSndBuf), 0
	}
	if t.kind == kindTCP {
		t.tcp.growSndBuf()
		return t.ep.SocketOptions().GetSendBufferSize(), 0
	}
	return memDefault, 0
}

func readRcvBuf(t target) (int64, stack.Errno) {
	if t.opts.has(optRcvBuf) {
		return t.opts.get(optRcvBuf), 0
	}
	if t.kind == kindTCP {
		return tcpRcvDefault, 0
	}
	return memDefault, 0
}

// setSndBuf is SO_SNDBUF: limited by wmem_max, then doubled. The comparison is
// unsigned, so negative values are the largest.
func setSndBuf(t target, val []byte) stack.Errno {
	v := min(binary.NativeEndian.Uint32(val), uint32(t.engine.sndBufMax))
	return setSndBufTo(t, int64(v))
}

func setRcvBuf(t target, val []byte) stack.Errno {
	v := min(binary.NativeEndian.Uint32(val), uint32(t.engine.rcvBufMax))
	return setRcvBufTo(t, int64(v))
}

func setSndBufTo(t target, v int64) stack.Errno {
	setBuf(t, optSndBuf, max(2*min(v, math.MaxInt32/2), minSndBuf), 1)
	return 0
}

func setRcvBufTo(t target, v int64) stack.Errno {
	setBuf(t, optRcvBuf, max(2*min(v, math.MaxInt32/2), minRcvBuf), 2)
	return 0
}

func setBuf(t target, id optID, v, lock int64) {
	t.opts.set(id, v)
	t.opts.set(optBufLock, t.opts.get(optBufLock)|lock)
	t.apply(id, v)
}

func forceBuf(set func(target, int64) stack.Errno) func(target, []byte) stack.Errno {
	return func(t target, val []byte) stack.Errno {
		if !t.engine.admin {
			return unix.EPERM
		}
		return set(t, max(int64(int32(binary.NativeEndian.Uint32(val))), 0))
	}
}

func getMeminfo(t target, val []byte) (int, stack.Errno) {
	var b [36]byte
	rcv, _ := readRcvBuf(t)
	snd, _ := readSndBuf(t)
	binary.NativeEndian.PutUint32(b[4:], uint32(rcv))
	binary.NativeEndian.PutUint32(b[12:], uint32(snd))
	return putBytes(val, b[:])
}

func getTimeo(id optID) func(target, []byte) (int, stack.Errno) {
	return func(t target, val []byte) (int, stack.Errno) {
		j := uint64(t.opts.get(id))
		var b [16]byte
		binary.NativeEndian.PutUint64(b[:], j/jiffies)
		binary.NativeEndian.PutUint64(b[8:], j%jiffies*(1000000/jiffies))
		return putBytes(val, b[:])
	}
}

func setTimeo(id optID) func(target, []byte) stack.Errno {
	return func(t target, val []byte) stack.Errno {
		if len(val) < 16 {
			return unix.EINVAL
		}
		sec := int64(binary.NativeEndian.Uint64(val))
		usec := int64(binary.NativeEndian.Uint64(val[8:]))
		if usec < 0 || usec >= 1000000 {
			return unix.EDOM
		}
		j := int64(0)
		if sec >= 0 && sec < math.MaxInt64/2/jiffies-1 {
			const tick = 1000000 / jiffies
			j = sec*jiffies + (usec+tick-1)/tick
		}
		t.opts.set(id, j)
		return 0
	}
}

// stampOption is one of the four that ask for SCM_TIMESTAMP or SCM_TIMESTAMPNS;
// setting one unsets the others.
func stampOption(name int64) option {
	return option{
		read: func(t target) (int64, stack.Errno) {
			if t.opts.get(optTimestamp) == name {
				return 1, 0
			}
			return 0, 0
		},
		check: func(t target, v int64) (int64, stack.Errno) {
			if v != 0 {
				v = name
			}
			t.opts.set(optTimestamp, v)
			return v, 0
		},
	}
}

// Flags of SO_TIMESTAMPING that others depend on (linux/net_tstamp.h).
const (
	stampOptID       = 1 << 7
	stampOptTSOnly   = 1 << 11
	stampOptStats    = 1 << 12
	stampBindPHC     = 1 << 15
	stampOptIDTCP    = 1 << 16
	stampAll         = 1<<19 - 1
	stampRxSoftware  = 1 << 3
	stampingMessages = stampRxSoftware
)

func getTimestamping(kind int64) func(target, []byte) (int, stack.Errno) {
	return func(t target, val []byte) (int, stack.Errno) {
		var b [8]byte
		if t.opts.get(optTimestampingNew) == kind {
			binary.NativeEndian.PutUint32(b[:], uint32(t.opts.get(optTimestamping)))
		}
		return putBytes(val, b[:])
	}
}

// setTimestamping is SO_TIMESTAMPING (sock_set_timestamping). The flags are
// kept; time stamps of a device do not exist here.
func setTimestamping(kind int64) func(target, []byte) stack.Errno {
	return func(t target, val []byte) stack.Errno {
		v := binary.NativeEndian.Uint32(val)
		switch {
		case v&^stampAll != 0,
			v&stampOptIDTCP != 0 && v&stampOptID == 0,
			v&stampOptID != 0 && t.tcp != nil && (t.tcp.linuxState() == tcpClose || t.tcp.linuxState() == tcpListen),
			v&stampOptStats != 0 && v&stampOptTSOnly == 0:
			return unix.EINVAL
		case v&stampBindPHC != 0:
			return unix.EOPNOTSUPP
		}
		t.opts.set(optTimestamping, int64(v))
		t.opts.set(optTimestampingNew, kind)
		return 0
	}
}

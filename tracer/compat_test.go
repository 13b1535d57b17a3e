package tracer

import (
	"bytes"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestLayouts compares what follows from word with the structures of x/sys.
func TestLayouts(t *testing.T) {
	var m unix.Msghdr
	for _, c := range []struct {
		what      string
		got, want int
	}{
		{"msghdr", word64.sizeofMsghdr(), unix.SizeofMsghdr},
		{"msg_namelen", int(word64.offMsgNamelen()), int(unsafe.Offsetof(m.Namelen))},
		{"msg_iov", 2 * int(word64), int(unsafe.Offsetof(m.Iov))},
		{"msg_iovlen", 3 * int(word64), int(unsafe.Offsetof(m.Iovlen))},
		{"msg_control", int(word64.offMsgControl()), int(unsafe.Offsetof(m.Control))},
		{"msg_controllen", int(word64.offMsgControllen()), int(unsafe.Offsetof(m.Controllen))},
		{"msg_flags", int(word64.offMsgControllen()) + int(word64), int(unsafe.Offsetof(m.Flags))},
		{"mmsghdr", word64.sizeofMmsghdr(), 64},
		{"iovec", word64.sizeofIovec(), unix.SizeofIovec},
		{"cmsghdr", word64.sizeofCmsghdr(), unix.SizeofCmsghdr},
		{"ifreq", word64.sizeofIfreq(), 40},
		{"ifconf", word64.sizeofIfconf(), 16},
		// linux/compat.h and net/compat.h
		{"compat_msghdr", word32.sizeofMsghdr(), 28},
		{"compat_msghdr.msg_control", int(word32.offMsgControl()), 16},
		{"compat_msghdr.msg_controllen", int(word32.offMsgControllen()), 20},
		{"compat_mmsghdr", word32.sizeofMmsghdr(), 32},
		{"compat_mmsghdr.msg_len", int(word32.offMsgLen()), 28},
		{"compat_iovec", word32.sizeofIovec(), 8},
		{"compat_cmsghdr", word32.sizeofCmsghdr(), 12},
		{"compat_ifreq", word32.sizeofIfreq(), 32},
		{"compat_ifconf", word32.sizeofIfconf(), 8},
	} {
		if c.got != c.want {
			t.Errorf("%s: %d, want %d", c.what, c.got, c.want)
		}
	}
}

// TestTranslate checks that every call of the table has an answer, and what
// becomes of the registers.
func TestTranslate(t *testing.T) {
	tr := &Tracer{}
	for nr, cc := range compatCalls {
		if handlers[cc.nr] == nil {
			t.Errorf("call %d becomes %d, which has no answer", nr, cc.nr)
		}
		c := call{t: tr, notification: notification{nr: nr, arch: compatArch, args: [6]uint64{1, 2, 3, 4, 5, 6}}}
		if _, ok := c.translate(); !ok || c.nr != cc.nr || c.word() != word32 {
			t.Errorf("call %d: %v, became %d", nr, ok, c.nr)
		}
		want := [6]uint64{1, 2, 3, 4, 5, 6}
		if cc.short {
			want[4], want[5] = 0, 0
		}
		if c.args != want {
			t.Errorf("call %d: arguments %v", nr, c.args)
		}
	}
	c := call{t: tr, notification: notification{nr: 1, arch: compatArch}}
	if r, ok := c.translate(); ok || r != toKernel {
		t.Errorf("exit: %+v, %v", r, ok)
	}
	c = call{t: tr, notification: notification{nr: 41, arch: unix.AUDIT_ARCH_PPC64}}
	if r, ok := c.translate(); ok || r.err != unix.ENOSYS {
		t.Errorf("another architecture: %+v, %v", r, ok)
	}
}

// TestSocketcall reads the arguments from this process.
func TestSocketcall(t *testing.T) {
	if compatSocketcall < 0 {
		t.Skip("this architecture's 32-bit programs have no socketcall")
	}
	// The arguments are at the end of what can be read, as at the stack's.
	const page = 4096
	mem, err := unix.Mmap(-1, 0, 2*page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(mem)
	if err := unix.Mprotect(mem[page:], unix.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	args := mem[page-6*int(word32) : page]
	copy(args, ints(3, 0xfffffff0, 5, unix.MSG_OOB, 0, 0))
	at := uint64(uintptr(unsafe.Pointer(&args[0])))
	do := func(which, addr uint64) (call, result, bool) {
		c := call{t: &Tracer{}, notification: notification{
			nr: compatSocketcall, arch: compatArch, tid: uint32(unix.Gettid()), args: [6]uint64{which, addr},
		}}
		r, ok := c.translate()
		return c, r, ok
	}
	for _, c := range []struct {
		which uint64
		nr    int32
		args  [6]uint64
		name  string
	}{
		{1, unix.SYS_SOCKET, [6]uint64{3, 0xfffffff0, 5}, "socket"},
		{4, unix.SYS_LISTEN, [6]uint64{3, 0xfffffff0}, "listen"},
		{9, unix.SYS_SENDTO, [6]uint64{3, 0xfffffff0, 5, 1}, "send"},
		{11, unix.SYS_SENDTO, [6]uint64{3, 0xfffffff0, 5, 1}, "sendto"},
		{10, unix.SYS_RECVFROM, [6]uint64{3, 0xfffffff0, 5, 1}, "recv"},
		{15, unix.SYS_GETSOCKOPT, [6]uint64{3, 0xfffffff0, 5, 1, 0}, "getsockopt"},
	} {
		got, _, ok := do(c.which, at)
		if !ok || got.nr != c.nr || got.args != c.args || got.syntax().name != c.name {
			t.Errorf("socketcall %d: %v, %d%#x %s", c.which, ok, got.nr, got.args, got.syntax().name)
		}
	}
	for _, which := range []uint64{0, 21, 0xffffffff} {
		if _, r, ok := do(which, at); ok || r.err != unix.EINVAL {
			t.Errorf("socketcall %d: %+v, %v", which, r, ok)
		}
	}
	// Calls from different places differ by what follows the arguments.
	low := uint64(uintptr(unsafe.Pointer(&mem[0])))
	copy(mem, args)
	first, _, _ := do(3, low)
	second, _, _ := do(3, low)
	if !second.repeats(&first) {
		t.Error("the same call is not recognised")
	}
	mem[socketcallWindow-1]++
	if second, _, _ = do(3, low); second.repeats(&first) {
		t.Error("a call from another place is taken for the same")
	}
	if _, r, ok := do(1, 8); ok || r.err != unix.EFAULT {
		t.Errorf("bad pointer: %+v, %v", r, ok)
	}
	// Plain sends and receives are the kernel's.
	args[12] = 0
	for _, which := range []uint64{9, 10, 11, 12} {
		if _, r, ok := do(which, at); ok || r != toKernel {
			t.Errorf("plain socketcall %d: %+v, %v", which, r, ok)
		}
	}
	args[16] = 1 // an address
	for which, want := range map[uint64]bool{9: false, 10: false, 11: true, 12: true} {
		if _, _, ok := do(which, at); ok != want {
			t.Errorf("socketcall %d with an address: %v", which, ok)
		}
	}
}

func TestWidenOption(t *testing.T) {
	group := append(ints(3), bytes.Repeat([]byte{7}, 128)...)
	for _, c := range []struct {
		level, name int
		val, want   []byte
	}{
		{unix.SOL_SOCKET, unix.SO_RCVTIMEO, ints(1, 500000), longs(1, 500000)},
		{unix.SOL_SOCKET, unix.SO_SNDTIMEO, ints(0xffffffff, 2, 3, 4), longs(^uint64(0), 2)},
		{unix.SOL_SOCKET, unix.SO_RCVTIMEO, ints(1), ints(1)},
		{unix.SOL_SOCKET, unix.SO_RCVTIMEO_NEW, longs(1, 2), longs(1, 2)},
		{unix.SOL_SOCKET, unix.SO_LINGER, ints(1, 2), ints(1, 2)},
		{unix.SOL_IP, unix.MCAST_JOIN_GROUP, group, append(ints(3, 0), group[4:]...)},
		{unix.SOL_IPV6, unix.MCAST_LEAVE_GROUP, group, append(ints(3, 0), group[4:]...)},
		{unix.SOL_TCP, unix.MCAST_JOIN_GROUP, group, group},
	} {
		if got := word32.widenOption(c.level, c.name, c.val); !bytes.Equal(got, c.want) {
			t.Errorf("%d, %d: % x, want % x", c.level, c.name, got, c.want)
		}
		if got := word64.widenOption(c.level, c.name, c.val); !bytes.Equal(got, c.val) {
			t.Errorf("%d, %d of 64 bits: % x", c.level, c.name, got)
		}
	}
	if n := len(word32.widenOption(unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, ints(1, 2))); n != 16 {
		t.Errorf("sock_fprog: %d bytes", n)
	}
}

package filter

import (
	"encoding/binary"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// Actions of <linux/seccomp.h>.
const (
	allow  = 0x7fff0000
	notify = 0x7fc00000
	errno  = 0x00050000
)

// Audit architectures of <linux/audit.h>.
const (
	archAMD64 = 0xc000003e
	archI386  = 0x40000003
	archARM64 = 0xc00000b7
	archARM   = 0x40000028
	archPPC64 = 0xc0000015
)

// eval runs a program on struct seccomp_data as the kernel does; it knows the
// instructions that libseccomp emits.
func eval(t *testing.T, prog []unix.SockFilter, arch, nr uint32, args [6]uint64) uint32 {
	t.Helper()
	var data [64]byte
	binary.LittleEndian.PutUint32(data[0:], nr)
	binary.LittleEndian.PutUint32(data[4:], arch)
	for i, a := range args {
		binary.LittleEndian.PutUint64(data[16+8*i:], a)
	}
	var acc uint32
	for pc := 0; pc < len(prog); pc++ {
		in := prog[pc]
		jump := func(cond bool) {
			if cond {
				pc += int(in.Jt)
			} else {
				pc += int(in.Jf)
			}
		}
		switch in.Code {
		case unix.BPF_LD | unix.BPF_W | unix.BPF_ABS:
			acc = binary.LittleEndian.Uint32(data[in.K:])
		case unix.BPF_ALU | unix.BPF_AND | unix.BPF_K:
			acc &= in.K
		case unix.BPF_JMP | unix.BPF_JA:
			pc += int(in.K)
		case unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K:
			jump(acc == in.K)
		case unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K:
			jump(acc > in.K)
		case unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K:
			jump(acc >= in.K)
		case unix.BPF_JMP | unix.BPF_JSET | unix.BPF_K:
			jump(acc&in.K != 0)
		case unix.BPF_RET | unix.BPF_K:
			return in.K
		default:
			t.Fatalf("instruction %d: unknown code %#x", pc, in.Code)
		}
	}
	t.Fatal("ran past the end")
	return 0
}

func load(t *testing.T, goarch string) []unix.SockFilter {
	t.Helper()
	b, err := os.ReadFile("filter_" + goarch + ".bin")
	if err != nil {
		t.Fatal(err)
	}
	if len(b) == 0 || len(b)%insnSize != 0 {
		t.Fatalf("%s: %d bytes", goarch, len(b))
	}
	return decode(string(b))
}

// numbers of calls: amd64, arm64.
var numbers = map[string][2]uint32{
	"read": {0, 63}, "write": {1, 64}, "ioctl": {16, 29}, "socket": {41, 198}, "connect": {42, 203},
	"accept": {43, 202}, "sendto": {44, 206}, "recvfrom": {45, 207}, "sendmsg": {46, 211},
	"recvmsg": {47, 212}, "shutdown": {48, 210}, "bind": {49, 200}, "listen": {50, 201},
	"getsockname": {51, 204}, "getpeername": {52, 205}, "socketpair": {53, 199},
	"setsockopt": {54, 208}, "getsockopt": {55, 209}, "accept4": {288, 242}, "recvmmsg": {299, 243},
	"sendmmsg": {307, 269}, "io_uring_setup": {425, 425}, "io_uring_enter": {426, 426},
	"io_uring_register": {427, 427}, "execve": {59, 221}, "pidfd_getfd": {438, 438},
}

func TestNative(t *testing.T) {
	const high = 0xdead_beef_0000_0000
	type args = [6]uint64
	tests := []struct {
		call string
		args args
		want uint32
	}{
		{"read", args{}, allow}, {"write", args{}, allow}, {"execve", args{}, allow},
		{"pidfd_getfd", args{}, allow}, {"socketpair", args{2}, allow},
		{"socket", args{unix.AF_UNIX}, allow}, {"socket", args{unix.AF_NETLINK}, allow},
		{"socket", args{unix.AF_PACKET}, allow},
		{"socket", args{unix.AF_INET}, notify}, {"socket", args{unix.AF_INET6}, notify},
		{"socket", args{high | unix.AF_INET}, notify}, {"socket", args{high | unix.AF_INET6}, notify},
		{"socket", args{43}, errno | 97}, {"socket", args{high | 21}, errno | 97}, {"socket", args{33}, errno | 97},
		{"connect", args{}, notify}, {"accept", args{}, notify}, {"accept4", args{}, notify},
		{"bind", args{}, notify}, {"listen", args{}, notify}, {"shutdown", args{}, notify},
		{"getsockname", args{}, notify}, {"getpeername", args{}, notify},
		{"getsockopt", args{}, notify}, {"setsockopt", args{}, notify},
		{"sendmsg", args{}, notify}, {"recvmsg", args{}, notify},
		{"sendmmsg", args{}, notify}, {"recvmmsg", args{}, notify},
		{"sendto", args{3, 1, 2, 0, 0, 9}, allow}, {"sendto", args{3, 1, 2, high, 0}, allow},
		{"sendto", args{3, 1, 2, unix.MSG_NOSIGNAL | unix.MSG_DONTWAIT | unix.MSG_EOR}, allow},
		{"sendto", args{3, 1, 2, 0, 1}, notify}, {"sendto", args{3, 1, 2, 0, 1 << 40}, notify},
		{"sendto", args{3, 1, 2, high | unix.MSG_OOB}, notify}, {"sendto", args{3, 1, 2, unix.MSG_MORE | unix.MSG_NOSIGNAL}, notify},
		{"sendto", args{3, 1, 2, unix.MSG_DONTROUTE}, notify}, {"sendto", args{3, 1, 2, unix.MSG_CONFIRM}, notify},
		{"sendto", args{3, 1, 2, unix.MSG_ZEROCOPY}, notify}, {"sendto", args{3, 1, 2, unix.MSG_FASTOPEN}, notify},
		{"sendto", args{3, 1, 2, 0x10}, notify},
		{"recvfrom", args{3, 1, 2, unix.MSG_PEEK | unix.MSG_WAITALL | unix.MSG_DONTWAIT}, allow},
		{"recvfrom", args{3, 1, 2, 0, 1}, notify}, {"recvfrom", args{3, 1, 2, unix.MSG_TRUNC}, notify},
		{"recvfrom", args{3, 1, 2, unix.MSG_ERRQUEUE}, notify}, {"recvfrom", args{3, 1, 2, unix.MSG_OOB}, notify},
		{"ioctl", args{3, unix.TCGETS}, allow}, {"ioctl", args{3, 0x5421}, allow}, {"ioctl", args{3, 0x8a01}, allow},
		{"ioctl", args{3, unix.TIOCINQ}, notify}, {"ioctl", args{3, high | unix.TIOCOUTQ}, notify},
		{"ioctl", args{3, 0x8905}, notify}, {"ioctl", args{3, 0x8912}, notify}, {"ioctl", args{3, high | 0x89ff}, notify},
		{"ioctl", args{3, 0x80108906}, notify}, {"ioctl", args{3, 0x80108907}, notify},
		{"io_uring_setup", args{}, errno | 38}, {"io_uring_enter", args{}, errno | 38}, {"io_uring_register", args{}, errno | 38},
	}
	for i, goarch := range []string{"amd64", "arm64"} {
		prog := load(t, goarch)
		arch := [2]uint32{archAMD64, archARM64}[i]
		for _, tt := range tests {
			if got := eval(t, prog, arch, numbers[tt.call][i], tt.args); got != tt.want {
				t.Errorf("%s %s%#x: action %#x, want %#x", goarch, tt.call, tt.args, got, tt.want)
			}
		}
	}
}

func TestForeign(t *testing.T) {
	tests := []struct {
		goarch   string
		arch, nr uint32
		args     [6]uint64
		want     uint32
	}{
		{"amd64", archAMD64, 0x40000000 | 41, [6]uint64{2}, errno | 38}, // x32 socket
		{"amd64", archAMD64, 0x40000000, [6]uint64{}, errno | 38},       // x32 read
		{"amd64", archPPC64, 3, [6]uint64{}, errno | 38},
		{"amd64", archI386, 3, [6]uint64{}, allow},                           // read
		{"amd64", archI386, 359, [6]uint64{unix.AF_UNIX}, allow},             // socket
		{"amd64", archI386, 359, [6]uint64{unix.AF_NETLINK}, allow},          //
		{"amd64", archI386, 359, [6]uint64{unix.AF_INET}, notify},            //
		{"amd64", archI386, 359, [6]uint64{unix.AF_INET6}, notify},           //
		{"amd64", archI386, 359, [6]uint64{43}, notify},                      // AF_SMC
		{"amd64", archI386, 360, [6]uint64{unix.AF_INET}, allow},             // socketpair
		{"amd64", archI386, 361, [6]uint64{}, notify},                        // bind
		{"amd64", archI386, 362, [6]uint64{}, notify},                        // connect
		{"amd64", archI386, 363, [6]uint64{}, notify},                        // listen
		{"amd64", archI386, 364, [6]uint64{}, notify},                        // accept4
		{"amd64", archI386, 365, [6]uint64{}, notify},                        // getsockopt
		{"amd64", archI386, 366, [6]uint64{}, notify},                        // setsockopt
		{"amd64", archI386, 367, [6]uint64{}, notify},                        // getsockname
		{"amd64", archI386, 368, [6]uint64{}, notify},                        // getpeername
		{"amd64", archI386, 369, [6]uint64{3, 1, 2, 0, 0, 9}, allow},         // sendto
		{"amd64", archI386, 369, [6]uint64{3, 1, 2, 0x4000, 0}, allow},       // MSG_NOSIGNAL
		{"amd64", archI386, 369, [6]uint64{3, 1, 2, 0x8000, 0}, notify},      // MSG_MORE
		{"amd64", archI386, 369, [6]uint64{3, 1, 2, 0, 1}, notify},           //
		{"amd64", archI386, 370, [6]uint64{}, notify},                        // sendmsg
		{"amd64", archI386, 371, [6]uint64{3, 1, 2, 0x42}, allow},            // recvfrom, MSG_PEEK|MSG_DONTWAIT
		{"amd64", archI386, 371, [6]uint64{3, 1, 2, 0x20, 0}, notify},        // MSG_TRUNC
		{"amd64", archI386, 371, [6]uint64{3, 1, 2, 0, 0x8000_0000}, notify}, //
		{"amd64", archI386, 372, [6]uint64{}, notify},                        // recvmsg
		{"amd64", archI386, 373, [6]uint64{}, notify},                        // shutdown
		{"amd64", archI386, 337, [6]uint64{}, notify},                        // recvmmsg
		{"amd64", archI386, 345, [6]uint64{}, notify},                        // sendmmsg
		{"amd64", archI386, 417, [6]uint64{}, notify},                        // recvmmsg_time64
		{"amd64", archI386, 54, [6]uint64{0, unix.TCGETS}, allow},            // ioctl
		{"amd64", archI386, 54, [6]uint64{0, 0x541b}, notify},                // FIONREAD
		{"amd64", archI386, 54, [6]uint64{0, 0x8912}, notify},                // SIOCGIFCONF
		{"amd64", archI386, 425, [6]uint64{}, errno | 38},                    // io_uring_setup
		{"arm64", archARM, 281, [6]uint64{unix.AF_INET}, notify},             // socket
		{"arm64", archARM, 281, [6]uint64{unix.AF_UNIX}, allow},              //
		{"arm64", archARM, 285, [6]uint64{}, notify},                         // accept
		{"arm64", archARM, 289, [6]uint64{3, 1, 2, 0, 1}, allow},             // send
		{"arm64", archARM, 289, [6]uint64{3, 1, 2, unix.MSG_OOB}, notify},    //
		{"arm64", archARM, 290, [6]uint64{3, 1, 2, 0, 1}, notify},            // sendto
		{"arm64", archARM, 291, [6]uint64{3, 1, 2, 0, 1}, allow},             // recv
		{"arm64", archARM, 291, [6]uint64{3, 1, 2, unix.MSG_TRUNC}, notify},  //
		{"arm64", archARM, 292, [6]uint64{3, 1, 2, 0, 1}, notify},            // recvfrom
		{"arm64", archARM, 417, [6]uint64{}, notify},                         // recvmmsg_time64
		{"arm64", archARM, 3, [6]uint64{}, allow},                            // read
		{"arm64", archAMD64, 41, [6]uint64{2}, errno | 38},
	}
	for call := range uint64(22) { // socketcall
		want := uint32(notify)
		if call == 0 || call == 8 || call == 21 { // none, socketpair, none
			want = allow
		}
		if got := eval(t, load(t, "amd64"), archI386, 102, [6]uint64{call, 0xffff}); got != want {
			t.Errorf("i386 socketcall %d: action %#x, want %#x", call, got, want)
		}
	}
	for _, tt := range tests {
		if got := eval(t, load(t, tt.goarch), tt.arch, tt.nr, tt.args); got != tt.want {
			t.Errorf("%s: arch %#x call %d: action %#x, want %#x", tt.goarch, tt.arch, tt.nr, got, tt.want)
		}
	}
}

func TestProgram(t *testing.T) {
	if n := len(Program()); n == 0 || n > 4096 { // BPF_MAXINSNS
		t.Errorf("%d instructions", n)
	}
}

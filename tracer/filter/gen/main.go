//go:build libseccomp && cgo

// Command gen writes the seccomp filters of package filter with libseccomp.
//
// For each architecture it writes filter_ARCH.bin, the classic BPF program as
// an array of struct sock_filter in that architecture's (little) byte order,
// and filter_ARCH.pfc, the same filter as libseccomp's readable pseudo code.
// Run it from the package's folder: go generate -tags libseccomp.
//
// Rules are added for an architecture at a time and merged, because libseccomp
// gives a rule to every architecture of a filter, and the calls of the foreign
// ones may be multiplexed (socketcall(2)), where conditions do not reach.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/alptrace/alptrace/tracer/filter"
	seccomp "github.com/seccomp/libseccomp-golang"
	"golang.org/x/sys/unix"
)

// Numbers that golang.org/x/sys/unix does not have.
const (
	afRDS     = 21                       // over TCP
	afRXRPC   = 33                       // over UDP
	afSMC     = 43                       // over TCP
	sockIoctl = 0x8900                   // <linux/sockios.h>: 0x8900-0x89ff
	gstampNew = 0x80108906               // SIOCGSTAMP_NEW
	gstampNS  = 0x80108907               // SIOCGSTAMPNS_NEW
	low32     = 0xffffffff               // the kernel reads an int from the low half only
	enosys    = int16(unix.ENOSYS)       // errno of what must look absent
	noFamily  = int16(unix.EAFNOSUPPORT) // errno of families that would use the host's IP
	apiLevel  = 6                        // generated code does not depend on the running kernel
	treeLevel = 2                        // binary tree: SCMP_FLTATR_CTL_OPTIMIZE
)

// always is trapped whatever its arguments.
var always = []string{
	"bind", "connect", "listen", "accept", "accept4", "getsockname", "getpeername",
	"getsockopt", "setsockopt", "shutdown", "sendmsg", "recvmsg", "sendmmsg", "recvmmsg",
}

// served are the families whose sockets become stand-ins; refused those that
// would use the host's own IP.
var (
	served  = []uint64{unix.AF_INET, unix.AF_INET6}
	refused = []uint64{afRDS, afRXRPC, afSMC}
)

// absent answers ENOSYS: io_uring's socket operations pass seccomp by.
var absent = []string{"io_uring_setup", "io_uring_enter", "io_uring_register"}

// socketcalls are the calls of socketcall(2) that are trapped (linux/net.h):
// all but socketpair, which is 8.
var socketcalls = []uint64{1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20}

// targets are the filters to write.
var targets = []struct {
	goarch  string
	native  seccomp.ScmpArch
	foreign seccomp.ScmpArch
}{
	{"amd64", seccomp.ArchAMD64, seccomp.ArchX86},
	{"arm64", seccomp.ArchARM64, seccomp.ArchARM},
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("gen: ")
	dir := flag.String("dir", ".", "folder to write to")
	flag.Parse()
	if err := seccomp.SetAPI(apiLevel); err != nil {
		log.Fatalf("set api level %d: %v", apiLevel, err)
	}
	for _, t := range targets {
		if err := write(*dir, t.goarch, t.native, t.foreign); err != nil {
			log.Fatalf("%s: %v", t.goarch, err)
		}
	}
}

// write makes the filter of one architecture and writes both its files.
func write(dir, goarch string, native, foreignArch seccomp.ScmpArch) error {
	f, err := empty(native)
	if err != nil {
		return err
	}
	defer f.Release()
	if err := nativeRules(f); err != nil {
		return err
	}
	g, err := empty(foreignArch)
	if err != nil {
		return err
	}
	if err := foreignRules(g, foreignArch); err != nil {
		return err
	}
	if err := f.Merge(g); err != nil { // releases g
		return fmt.Errorf("merge %v: %w", foreignArch, err)
	}
	base := filepath.Join(dir, "filter_"+goarch)
	if err := export(base+".bin", f.ExportBPF); err != nil {
		return err
	}
	return export(base+".pfc", f.ExportPFC)
}

// empty is a filter for one architecture that allows everything. Calls of any
// other architecture, x32 included, answer ENOSYS.
func empty(arch seccomp.ScmpArch) (*seccomp.ScmpFilter, error) {
	f, err := seccomp.NewFilter(seccomp.ActAllow)
	if err != nil {
		return nil, fmt.Errorf("new filter: %w", err)
	}
	host, err := seccomp.GetNativeArch()
	if err != nil {
		return nil, fmt.Errorf("native architecture: %w", err)
	}
	if arch != host {
		if err := f.AddArch(arch); err != nil {
			return nil, fmt.Errorf("add %v: %w", arch, err)
		}
		if err := f.RemoveArch(host); err != nil {
			return nil, fmt.Errorf("remove %v: %w", host, err)
		}
	}
	if err := f.SetBadArchAction(seccomp.ActErrno.SetReturnCode(enosys)); err != nil {
		return nil, fmt.Errorf("set bad architecture action: %w", err)
	}
	if err := f.SetOptimize(treeLevel); err != nil {
		return nil, fmt.Errorf("set optimize: %w", err)
	}
	return f, nil
}

// nativeRules adds the rules of a 64-bit architecture.
func nativeRules(f *seccomp.ScmpFilter) error {
	r := rules{f: f}
	for _, name := range always {
		r.add(name, seccomp.ActNotify)
	}
	for _, name := range absent {
		r.add(name, seccomp.ActErrno.SetReturnCode(enosys))
	}
	for _, family := range served {
		r.add("socket", seccomp.ActNotify, masked(0, low32, family))
	}
	for _, family := range refused {
		r.add("socket", seccomp.ActErrno.SetReturnCode(noFamily), masked(0, low32, family))
	}
	for _, name := range []string{"sendto", "recvfrom"} {
		r.add(name, seccomp.ActNotify, cond{4, seccomp.CompareNotEqual, []uint64{0}})
	}
	r.addFlags("sendto", filter.SendFlags)
	r.addFlags("recvfrom", filter.RecvFlags)
	r.addIoctls()
	return r.err
}

// foreignRules adds the rules of a 32-bit architecture. Where it has
// socketcall(2), libseccomp makes of a rule for a call on sockets one for the
// call itself and one for socketcall, and the latter's conditions on arguments
// come to nothing: the rules for socketcall itself have none.
func foreignRules(f *seccomp.ScmpFilter, arch seccomp.ScmpArch) error {
	r := rules{f: f}
	if has(arch, "socketcall") {
		for _, call := range socketcalls {
			r.add("socketcall", seccomp.ActNotify, cond{0, seccomp.CompareEqual, []uint64{call}})
		}
	}
	for _, name := range append([]string{"recvmmsg_time64"}, always...) {
		if has(arch, name) {
			r.add(name, seccomp.ActNotify)
		}
	}
	for _, name := range absent {
		r.add(name, seccomp.ActErrno.SetReturnCode(enosys))
	}
	for _, family := range append(append([]uint64{}, served...), refused...) {
		r.add("socket", seccomp.ActNotify, masked(0, low32, family))
	}
	for _, name := range []string{"sendto", "recvfrom"} {
		r.add(name, seccomp.ActNotify, cond{4, seccomp.CompareNotEqual, []uint64{0}})
	}
	r.addFlags("sendto", filter.SendFlags)
	r.addFlags("recvfrom", filter.RecvFlags)
	if has(arch, "send") && !has(arch, "socketcall") {
		r.addFlags("send", filter.SendFlags)
		r.addFlags("recv", filter.RecvFlags)
	}
	r.addIoctls()
	return r.err
}

// addFlags traps a call that moves a message if it has any of the flags.
func (r *rules) addFlags(name string, flags uint64) {
	for bit := uint64(1); bit <= flags; bit <<= 1 {
		if flags&bit != 0 {
			r.add(name, seccomp.ActNotify, masked(3, bit, bit))
		}
	}
}

// addIoctls traps what ioctl does with sockets.
func (r *rules) addIoctls() {
	for _, cmd := range []uint64{unix.TIOCINQ, unix.TIOCOUTQ, gstampNew, gstampNS} {
		r.add("ioctl", seccomp.ActNotify, masked(1, low32, cmd))
	}
	r.add("ioctl", seccomp.ActNotify, masked(1, 0xffffff00, sockIoctl))
}

// has reports whether arch has the call, multiplexed calls included.
func has(arch seccomp.ScmpArch, name string) bool {
	nr, err := seccomp.GetSyscallFromNameByArch(name, arch)
	return err == nil && (nr >= 0 || arch == seccomp.ArchX86 && nr > -200)
}

// cond is one comparison of an argument.
type cond struct {
	arg    uint
	op     seccomp.ScmpCompareOp
	values []uint64
}

// masked is: argument & mask == value.
func masked(arg uint, mask, value uint64) cond {
	return cond{arg, seccomp.CompareMaskedEqual, []uint64{mask, value}}
}

// rules adds rules to a filter until the first error.
type rules struct {
	f   *seccomp.ScmpFilter
	err error
}

func (r *rules) add(name string, action seccomp.ScmpAction, conds ...cond) {
	if r.err != nil {
		return
	}
	nr, err := seccomp.GetSyscallFromName(name)
	if err != nil {
		r.err = fmt.Errorf("number of %s: %w", name, err)
		return
	}
	var cs []seccomp.ScmpCondition
	for _, c := range conds {
		sc, err := seccomp.MakeCondition(c.arg, c.op, c.values...)
		if err != nil {
			r.err = fmt.Errorf("condition on %s: %w", name, err)
			return
		}
		cs = append(cs, sc)
	}
	if len(cs) == 0 {
		err = r.f.AddRule(nr, action)
	} else {
		err = r.f.AddRuleConditional(nr, action, cs)
	}
	if err != nil {
		r.err = fmt.Errorf("rule for %s: %w", name, err)
	}
}

// export writes a file with one of libseccomp's exporters.
func export(name string, to func(*os.File) error) error {
	w, err := os.Create(name)
	if err != nil {
		return err
	}
	if err := to(w); err != nil {
		_ = w.Close()
		return fmt.Errorf("export %s: %w", name, err)
	}
	return w.Close()
}

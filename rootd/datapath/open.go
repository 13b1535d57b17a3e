package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/rlimit"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const bpffs = "/sys/fs/bpf"

// Probe says whether this kernel can run the datapath: nil, or ErrNoTCX, or the
// error of trying (EPERM without privilege).
func Probe() error {
	_ = rlimit.RemoveMemlock() // needed before 5.11 only, and refused where it is not
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Type:         ebpf.SchedCLS,
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, -1), asm.Return()},
		License:      "MIT",
	})
	if err != nil {
		return fmt.Errorf("load a BPF program: %w", err)
	}
	defer p.Close()
	// No device has this index, and only a kernel that knows TCX looks.
	_, err = link.AttachTCX(link.TCXOptions{Interface: math.MaxInt32, Program: p, Attach: ebpf.AttachTCXIngress})
	switch {
	case errors.Is(err, unix.ENODEV):
		return nil
	case errors.Is(err, ebpf.ErrNotSupported):
		return ErrNoTCX
	}
	return fmt.Errorf("probe for TCX: %w", err)
}

// Open loads the programs, or adopts those that an earlier process left, attaches
// rx to every device and follows the host's links and addresses from then on.
// Maps left by another version that do not fit are replaced, with all that is
// in them. Errors: ErrNoTCX, ErrNotBPFFS, those of bpf(2) and netlink(7).
func Open(cfg Config) (*Datapath, error) {
	if cfg.PinDir == "" {
		cfg.PinDir = filepath.Join(bpffs, "alptrace")
	}
	if cfg.Prefix == "" {
		cfg.Prefix = "alp"
	}
	if len(cfg.Prefix) > 5 || strings.ContainsAny(cfg.Prefix, "/ .") {
		return nil, fmt.Errorf("datapath: device prefix %q: %w", cfg.Prefix, unix.EINVAL)
	}
	d := &Datapath{
		cfg: cfg, log: cfg.Logger, done: make(chan struct{}),
		leases: map[uint32]*lease{}, owner: map[Grant]uint32{}, devices: map[int]uint32{},
		ports: newPortSet(), attached: map[int]bool{}, failed: map[int]bool{}, locals: map[addr]progLocal{},
	}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if err := d.open(); err != nil {
		if d.mon != nil {
			d.mon.close()
		}
		_ = d.objs.Close()
		if d.nl != nil {
			d.nl.Close()
		}
		return nil, fmt.Errorf("datapath: %w", err)
	}
	go d.follow()
	return d, nil
}

func (d *Datapath) open() error {
	if err := Probe(); err != nil {
		return err
	}
	if err := preparePins(d.cfg.PinDir); err != nil {
		return err
	}
	var err error
	if d.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("netlink: %w", err)
	}
	if err := d.load(); err != nil {
		return err
	}
	if err := d.readMaps(); err != nil {
		return err
	}
	if err := d.adoptLinks(); err != nil {
		return err
	}
	// From before the first look on, no change is missed.
	if d.mon, err = subscribe(d.cfg.Prefix); err != nil {
		return err
	}
	if err := d.sync(); err != nil {
		return err
	}
	return d.sweep()
}

// load loads programs and maps, pinned by name.
func (d *Datapath) load() error {
	for again := false; ; again = true {
		spec, err := loadProg()
		if err != nil {
			return err
		}
		for _, m := range spec.Maps {
			m.Pinning = ebpf.PinByName
		}
		if d.cfg.MaxGrants > 0 {
			spec.Maps[progMapGrants].MaxEntries = uint32(d.cfg.MaxGrants)
		}
		if m, err := ebpf.LoadPinnedMap(filepath.Join(d.cfg.PinDir, progMapGrants), nil); err == nil {
			spec.Maps[progMapGrants].MaxEntries = m.MaxEntries()
			_ = m.Close()
		}
		err = spec.LoadAndAssign(&d.objs, &ebpf.CollectionOptions{Maps: ebpf.MapOptions{PinPath: d.cfg.PinDir}})
		if errors.Is(err, ebpf.ErrMapIncompatible) && !again {
			d.log.Warn("pinned maps are of another version: all leases end", "dir", d.cfg.PinDir, "err", err)
			if err := removePins(d.cfg.PinDir); err != nil {
				return err
			}
			if err := preparePins(d.cfg.PinDir); err != nil {
				return err
			}
			continue
		}
		var ve *ebpf.VerifierError
		if errors.As(err, &ve) {
			return fmt.Errorf("the kernel's verifier refuses a program: %w", ve)
		}
		if err != nil {
			return fmt.Errorf("load programs: %w", err)
		}
		return nil
	}
}

// readMaps learns the leases and grants of an earlier process.
func (d *Datapath) readMaps() error {
	var index, id uint32
	it := d.objs.Leases.Iterate()
	for it.Next(&index, &id) {
		d.leases[id] = &lease{ifindex: int(index), grants: map[Grant]struct{}{}}
		d.devices[int(index)] = id
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("read pinned leases: %w", err)
	}
	var key progGrantKey
	var val progGrant
	var orphans []progGrantKey
	it = d.objs.Grants.Iterate()
	for it.Next(&key, &val) {
		g := key.grant()
		l := d.leases[val.Lease]
		if l == nil { // half removed
			orphans = append(orphans, key)
			continue
		}
		l.grants[g] = struct{}{}
		l.restricted = l.restricted || val.Flags&restricted != 0
		d.owner[g] = val.Lease
		d.ports.add(g)
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("read pinned grants: %w", err)
	}
	for i := range orphans {
		_ = d.objs.Grants.Delete(&orphans[i])
	}
	d.ports.all()
	if err := d.ports.write(d.objs.Ports); err != nil {
		return err
	}
	var a addr
	var loc progLocal
	it = d.objs.Locals.Iterate()
	for it.Next(&a, &loc) {
		d.locals[a] = loc
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("read pinned addresses: %w", err)
	}
	return nil
}

// adoptLinks puts this version's programs into the pinned links, and drops the
// pins of devices that are gone.
func (d *Datapath) adoptLinks() error {
	names, err := os.ReadDir(d.cfg.PinDir)
	if err != nil {
		return err
	}
	for _, e := range names {
		dir, num, ok := strings.Cut(e.Name(), "-")
		index, err := strconv.Atoi(num)
		if !ok || err != nil {
			continue
		}
		prog := d.objs.Rx
		if dir == "tx" {
			prog = d.objs.Tx
		}
		live, err := adopt(filepath.Join(d.cfg.PinDir, e.Name()), prog, index)
		if err != nil {
			return err
		}
		if live && dir == "rx" {
			d.attached[index] = true
		}
	}
	for id, l := range d.leases {
		if _, err := os.Stat(d.pin("tx", l.ifindex)); err == nil {
			continue
		}
		// Gone, or without its program: never leave it open.
		err := d.attach("tx", d.objs.Tx, l.ifindex)
		if err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("device of lease %d: %w", id, err)
		}
	}
	return nil
}

// adopt updates a pinned link; it is false, and the pin gone, if its device is.
func adopt(path string, prog *ebpf.Program, index int) (bool, error) {
	l, err := link.LoadPinnedLink(path, nil)
	if err != nil {
		return false, fmt.Errorf("adopt %s: %w", path, err)
	}
	defer l.Close()
	info, err := l.Info()
	if err != nil {
		return false, fmt.Errorf("adopt %s: %w", path, err)
	}
	if t := info.TCX(); t == nil || int(t.Ifindex) != index {
		return false, l.Unpin()
	}
	err = l.Update(prog)
	if errors.Is(err, unix.ENOLINK) { // went just now
		return false, l.Unpin()
	}
	if err != nil {
		return false, fmt.Errorf("adopt %s: %w", path, err)
	}
	return true, nil
}

func (d *Datapath) pin(dir string, index int) string {
	return filepath.Join(d.cfg.PinDir, dir+"-"+strconv.Itoa(index))
}

// attach attaches a program in front of all others and pins the link.
func (d *Datapath) attach(dir string, prog *ebpf.Program, index int) error {
	l, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: prog, Attach: ebpf.AttachTCXIngress, Anchor: link.Head()})
	if err != nil {
		return fmt.Errorf("attach %s to device %d: %w", dir, index, err)
	}
	defer l.Close()
	if err := l.Pin(d.pin(dir, index)); err != nil {
		return fmt.Errorf("pin %s of device %d: %w", dir, index, err)
	}
	return nil
}

// preparePins makes the directory, and mounts the BPF file system where it
// usually is.
func preparePins(dir string) error {
	if strings.HasPrefix(dir, bpffs+"/") && !onBPFFS(bpffs) {
		if err := unix.Mount("bpf", bpffs, "bpf", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, "mode=0700"); err != nil {
			return fmt.Errorf("mount a BPF file system on %s: %w", bpffs, err)
		}
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	if !onBPFFS(dir) {
		return fmt.Errorf("%s: %w", dir, ErrNotBPFFS)
	}
	return nil
}

func onBPFFS(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && uint32(st.Type) == unix.BPF_FS_MAGIC
}

// removePins unpins everything in dir, and dir: what nobody has open is gone
// from the kernel then.
func removePins(dir string) error {
	if !onBPFFS(dir) {
		return nil
	}
	err := os.RemoveAll(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

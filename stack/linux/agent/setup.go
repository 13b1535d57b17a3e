package agent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/stack/linux/internal/proto"
	"github.com/alptrace/alptrace/stack/linux/ring"
)

// needed are the modules without which there is no port and no card, where the
// kernel does not have them built in.
var needed = []string{"virtio_net", "virtio_console", "ipv6"}

// setUp makes a guest of the bare kernel, and opens the port.
func setUp(modules string) (port int, err error) {
	for _, m := range []struct{ at, kind string }{{"/proc", "proc"}, {"/sys", "sysfs"}, {"/dev", "devtmpfs"}} {
		if err := unix.Mount("none", m.at, m.kind, 0, ""); err != nil && !errors.Is(err, unix.EBUSY) {
			return -1, fmt.Errorf("mount %s: %w (CONFIG_%s)", m.at, err, map[string]string{"proc": "PROC_FS", "sysfs": "SYSFS", "devtmpfs": "DEVTMPFS"}[m.kind])
		}
	}
	if dir := moduleDir(modules); dir != "" {
		for _, name := range needed {
			if err := loadByName(dir, name); err != nil {
				return -1, err
			}
		}
	}
	name, err := findPort()
	if err != nil {
		return -1, err
	}
	fd, err := unix.Open(name, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", name, err)
	}
	return fd, nil
}

// moduleDir is the first of the directories that has this kernel's modules. They
// are separated by colons, and a star stands for the kernel's release.
func moduleDir(list string) string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	for dir := range strings.SplitSeq(list, ":") {
		dir = strings.ReplaceAll(dir, "*", unix.ByteSliceToString(u.Release[:]))
		if unix.Access(filepath.Join(dir, "modules.dep"), unix.R_OK) == nil {
			return dir
		}
	}
	return ""
}

// findPort is the device of the port whose name is "alptrace".
func findPort() (string, error) {
	const wait = 2 * time.Second
	for end := time.Now().Add(wait); ; time.Sleep(time.Millisecond) {
		names, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
		for _, n := range names {
			if b, _ := os.ReadFile(n); strings.TrimSpace(string(b)) == "alptrace" {
				return "/dev/" + filepath.Base(filepath.Dir(n)), nil
			}
		}
		if time.Now().After(end) {
			return "", errors.New("no virtio port: the kernel needs CONFIG_VIRTIO_UML=y and CONFIG_VIRTIO_CONSOLE=y")
		}
	}
}

// loadByName loads a module with those that it needs, by the modules.dep of the
// directory. One that is not there is taken for built in.
func loadByName(dir, name string) error {
	dep, err := os.ReadFile(filepath.Join(dir, "modules.dep"))
	if err != nil {
		return fmt.Errorf("modules: %w", err)
	}
	for line := range strings.Lines(string(dep)) {
		file, rest, ok := strings.Cut(strings.TrimSpace(line), ":")
		if !ok || moduleName(file) != name {
			continue
		}
		// The last of the list is needed by those before it.
		list := strings.Fields(rest)
		for i := len(list) - 1; i >= 0; i-- {
			if err := loadModule(filepath.Join(dir, list[i]), ""); err != nil {
				return err
			}
		}
		return loadModule(filepath.Join(dir, file), "")
	}
	return nil
}

func moduleName(file string) string {
	name, _, _ := strings.Cut(filepath.Base(file), ".ko")
	return strings.ReplaceAll(name, "-", "_")
}

// loadModule loads one; that it is there already is no error.
func loadModule(path, params string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("module %s: %w", path, err)
	}
	defer unix.Close(fd)
	if err := unix.FinitModule(fd, params, 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("module %s: %w", path, err)
	}
	return nil
}

// ringSize is the memory of each queue, bytes.
const ringSize = 4 << 20

// shareMemory makes the shared memory, and the message that tells where it is.
func shareMemory() (mem, hello []byte, err error) {
	_ = os.WriteFile("/proc/sys/vm/compact_unevictable_allowed", []byte("0"), 0) // pages stay where they are
	mem, err = unix.Mmap(-1, 0, ring.PageSize+2*ringSize, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS|unix.MAP_POPULATE)
	if err != nil {
		return nil, nil, fmt.Errorf("shared memory: %w", err)
	}
	if err := unix.Mlock(mem); err != nil {
		return nil, nil, fmt.Errorf("shared memory: mlock: %w", err)
	}
	for i := 0; i < len(mem); i += ring.PageSize {
		mem[i] = 0
	}
	pages := len(mem) / ring.PageSize
	f, err := os.Open("/proc/self/pagemap")
	if err != nil {
		return nil, nil, fmt.Errorf("%w (CONFIG_PROC_PAGE_MONITOR)", err)
	}
	defer f.Close()
	entries := make([]byte, 8*pages)
	if _, err := f.ReadAt(entries, int64(pointer(mem)/ring.PageSize*8)); err != nil {
		return nil, nil, fmt.Errorf("pagemap: %w", err)
	}
	hello = binary.LittleEndian.AppendUint64(nil, proto.Magic)
	hello = binary.LittleEndian.AppendUint64(hello, uint64(pages))
	for i := range pages {
		const present, frame = 1 << 63, 1<<55 - 1
		v := binary.LittleEndian.Uint64(entries[8*i:])
		if v&present == 0 || v&frame == 0 {
			return nil, nil, errors.New("pagemap does not tell where memory is")
		}
		hello = binary.LittleEndian.AppendUint64(hello, v&frame)
	}
	return mem, hello, nil
}

// refuse tells the engine why there will be no agent.
func refuse(port int, err error) {
	_ = writeAll(port, append(binary.LittleEndian.AppendUint64(nil, proto.Refused), err.Error()...))
	time.Sleep(10 * time.Millisecond)
}

func writeAll(fd int, b []byte) error {
	for len(b) > 0 {
		n, errno := sysWrite(fd, b[:min(len(b), 4096)])
		switch errno {
		case 0:
			b = b[n:]
		case unix.EAGAIN, unix.EINTR:
			pause()
		default:
			return errno
		}
	}
	return nil
}

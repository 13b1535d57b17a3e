package vhost

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// errAddress is an address of the driver's that is not in the shared memory.
var errAddress = errors.New("address outside of the guest's memory")

// region is a stretch of the guest's memory.
type region struct {
	addr uint64 // of the guest, physical
	mem  []byte
	all  []byte // as it was mapped
}

// memory is what the driver shares of its own.
type memory []region

// slice is n bytes of the guest's memory at addr.
func (m memory) slice(addr, n uint64) ([]byte, error) {
	for i := range m {
		r := &m[i]
		if off := addr - r.addr; addr >= r.addr && off < uint64(len(r.mem)) && n <= uint64(len(r.mem))-off {
			return r.mem[off : off+n : off+n], nil
		}
	}
	return nil, fmt.Errorf("%w: %#x, %d bytes", errAddress, addr, n)
}

func (m memory) unmap() {
	for i := range m {
		_ = unix.Munmap(m[i].all)
	}
}

// mapMemory maps what SET_MEM_TABLE describes.
func mapMemory(msg *message) (m memory, err error) {
	const each = 32
	n := int(msg.uint32(0))
	if n > maxFDs || n != len(msg.fds) {
		return nil, fmt.Errorf("%d regions of memory with %d descriptors", n, len(msg.fds))
	}
	if err := msg.need(8 + n*each); err != nil {
		return nil, err
	}
	for i := range n {
		at := 8 + i*each
		guest, size, off := msg.uint64(at), msg.uint64(at+8), msg.uint64(at+24)
		fd := msg.takeFD()
		all, err := mapRegion(fd, size, off)
		unix.Close(fd)
		if err != nil {
			m.unmap()
			return nil, fmt.Errorf("map the guest's memory: %w", err)
		}
		m = append(m, region{addr: guest, mem: all[off:], all: all})
	}
	return m, nil
}

// mapRegion maps size bytes from off on, and what is before them: off need not
// be a multiple of a page.
func mapRegion(fd int, size, off uint64) ([]byte, error) {
	const most = 1 << 40
	if size == 0 || size > most || off > most {
		return nil, unix.EINVAL
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, err
	}
	if uint64(st.Size) < off+size {
		return nil, fmt.Errorf("a file of %d bytes, want %d: %w", st.Size, off+size, unix.EINVAL)
	}
	return unix.Mmap(fd, 0, int(off+size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
}

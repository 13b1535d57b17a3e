package capture

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/gopacket/pcapgo"

	"github.com/alptrace/alptrace/link"
	"github.com/alptrace/alptrace/link/pair"
)

// packetsIn counts the packets of a file, and gives its length.
func packetsIn(t *testing.T, name string) (n, size int) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	r, err := pcapgo.NewNgReader(bytes.NewReader(b), pcapgo.DefaultNgReaderOptions)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	for {
		if _, _, err := r.ReadPacketData(); errors.Is(err, io.EOF) {
			return n, len(b)
		} else if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		n++
	}
}

func TestRing(t *testing.T) {
	const size, packets = 20000, 100 // of 1040 bytes, and their blocks
	for _, c := range []struct {
		files int
		names []string
		keep  bool // all packets
	}{
		{0, []string{"c", "c1", "c2", "c3", "c4", "c5"}, true},
		{3, []string{"c0", "c1", "c2"}, false},
		{11, []string{"c00", "c01", "c02", "c03", "c04", "c05"}, true},
		{1, []string{"c0"}, false},
	} {
		dir := t.TempDir()
		r, err := NewRing(filepath.Join(dir, "c"), size, c.files)
		if err != nil {
			t.Fatal(err)
		}
		a, b := pair.New(pair.Options{Features: features})
		l, err := Wrap(a, r, Options{})
		if err != nil {
			t.Fatal(err)
		}
		for range packets {
			_, _ = l.Send([]link.Packet{partial(false, 1000)})
		}
		if err := errors.Join(l.Close(), b.Close(), r.Close(), l.Err()); err != nil {
			t.Fatal(err)
		}
		files, _ := filepath.Glob(filepath.Join(dir, "*"))
		total := 0
		var names []string
		for _, f := range files {
			n, length := packetsIn(t, f)
			total += n
			names = append(names, filepath.Base(f))
			if length > size || n == 0 {
				t.Errorf("%s: %d bytes, %d packets", f, length, n)
			}
		}
		if !slices.Equal(names, c.names) || c.keep != (total == packets) {
			t.Errorf("%d files: %v, %d packets", c.files, names, total)
		}
	}
}

// TestRingLarge: a packet larger than a file has one of its own.
func TestRingLarge(t *testing.T) {
	dir := t.TempDir()
	r, err := NewRing(filepath.Join(dir, "c"), 1000, 0)
	if err != nil {
		t.Fatal(err)
	}
	a, b := pair.New(pair.Options{Features: features})
	defer b.Close()
	l, err := Wrap(a, r, Options{})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		_, _ = l.Send([]link.Packet{partial(false, 5000)})
	}
	if err := errors.Join(l.Close(), r.Close()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"c", "c1", "c2"} {
		if n, _ := packetsIn(t, filepath.Join(dir, name)); n != 1 {
			t.Errorf("%s: %d packets", name, n)
		}
	}
	if _, err := r.Write([]byte("no block, but as long as one")); !errors.Is(err, errBlock) {
		t.Errorf("%v", err)
	}
	if _, err := NewRing(filepath.Join(dir, "none", "c"), 1000, 0); err == nil {
		t.Error("a file in a directory that is not there")
	}
}

package main

import (
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/alptrace/alptrace/rootd"
)

func TestParse(t *testing.T) {
	o, err := parse([]string{"--socket", "/tmp/a.sock", "--log", "json", "--log-level", "debug"})
	if err != nil || o.state != "/tmp/a.state" || o.policy != defaultPolicy || o.policySet || o.logLevel != slog.LevelDebug {
		t.Errorf("%+v, %v", o, err)
	}
	if o, err := parse([]string{"status", "--json"}); err != nil || !o.status || !o.json {
		t.Errorf("%+v, %v", o, err)
	}
	if _, err := parse([]string{"-h"}); !errors.Is(err, errHelp) {
		t.Error(err)
	}
	for _, args := range []string{"--json", "stat", "status more", "--log xml", "--log-level loud", "--check=", "--nonsense", "--policy"} {
		if o, err := parse(strings.Fields(args)); err == nil {
			t.Errorf("%s: %+v", args, o)
		}
	}
	for _, want := range []string{"status", "--check FILE", "--policy FILE"} {
		if !strings.Contains(usage(), want) {
			t.Errorf("usage without %q:\n%s", want, usage())
		}
	}
}

func TestCheck(t *testing.T) {
	path := filepath.Join(t.TempDir(), "p")
	var out strings.Builder
	if err := check(&out, path); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	for text, want := range map[string]string{"[default]\ngrants=5\n": "", "\n[defalt]\n": "line 2"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		err := check(&out, path)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path)) {
			t.Errorf("%q: %v", text, err)
		}
	}
	if out.String() != path+": ok\n" {
		t.Error(out.String())
	}
}

func TestTable(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	st := rootd.Status{
		PID: 7, Since: now.Add(-90 * time.Minute), Grants: 12, MaxGrants: 100, MaxLeases: 5, HeldBack: 2,
		Leases: []rootd.LeaseStatus{
			{UID: 0, PID: 10, Program: "nginx", Device: "alp1", Since: now.Add(-61 * time.Second), Grants: 2, RxPackets: 3, RxBytes: 1023,
				TxPackets: 4, TxBytes: 5 << 20, Drops: map[string]uint64{"no route": 1, "not granted": 30, "too big": 0}},
			{UID: 4294967294, PID: 123456, Command: "alptrace", Device: "alp4000000000", Since: now, Grants: 8, Naked: 1, Waiting: true},
		},
	}
	var out strings.Builder
	if err := table(&out, st, now); err != nil {
		t.Fatal(err)
	}
	want := `rootd 7, up 1h30m: 2 of 5 leases, 12 of 100 grants (2 TCP ports held back)
USER        PID     PROGRAM                   DEVICE         AGE    GRANTS              RX PACKETS  RX BYTES  TX PACKETS  TX BYTES  DROPS
root        10      nginx                     alp1           1m01s  2                   3           1023 B    4           5.0 MiB   30 not granted, 1 no route
4294967294  123456  alptrace (to be resumed)  alp4000000000  0s     8 (1 not reserved)  0           0 B       0           0 B       -
`
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", &out, want)
	}
}

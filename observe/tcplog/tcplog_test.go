package tcplog

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

var (
	here  = netip.MustParseAddrPort("10.0.0.1:4000")
	there = netip.MustParseAddrPort("[fd00::2]:80")
	start = time.Date(2026, 11, 22, 19, 0, 0, 123456789, time.UTC)
)

// records has one of each kind, and every field.
func records() []Record {
	c := Record{Conn: 3, Local: here, Remote: there, PID: 123, Prog: "cu\"r\\l\n\x7fé"}
	with := func(f func(r *Record)) Record {
		r := c
		f(&r)
		return r
	}
	return []Record{
		with(func(r *Record) { r.Ev, r.State, r.From = EvState, "ESTABLISHED", "SYN_SENT" }),
		with(func(r *Record) {
			r.T, r.Ev, r.Host = 1, EvCC, "client1"
			r.Cwnd, r.Ssthresh, r.InFlight, r.SndWnd, r.MSS = 14480, math.MaxUint64, 1448, 65536, 1448
			r.SRTT, r.RTTVar, r.RTO, r.Retrans, r.CA = 1e6, 1, 200e6, 2, CARecovery
		}),
		with(func(r *Record) {
			r.T, r.Ev, r.Dir, r.Seq, r.Ack, r.Len, r.Segs = 123456789, EvSegment, DirOut, math.MaxUint32, 1, 64000, 45
			r.Wnd, r.Flags, r.SACK, r.TS, r.Retx, r.ECN = 6291456, "SA", [][2]uint32{{1, 2}, {4294967295, 5}}, [2]uint32{7, 0}, true, "ce"
		}),
		{T: 3600e9 + 1, Ev: EvQueue, Link: "tun0", Dir: DirIn, Pkts: 1, Bytes: 1500, Dropped: 2, Marked: 3, Lost: 4, Sent: 5},
	}
}

func TestRoundTrip(t *testing.T) {
	var b bytes.Buffer
	h := Header{Start: start, Engine: "netstack", Host: "client1"}
	w := NewWriter(&b, h)
	recs := records()
	for i := range recs {
		w.Write(&recs[i])
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	r, got, err := NewReader(&b)
	if err != nil {
		t.Fatal(err)
	}
	h.Schema, h.Clock = Schema, Wall
	if got != h {
		t.Errorf("header %+v, want %+v", got, h)
	}
	for i := range recs {
		got, err := r.Read()
		if err != nil || !reflect.DeepEqual(*got, recs[i]) {
			t.Errorf("got %+v, %v\nwant %+v", got, err, recs[i])
		}
	}
	if _, err := r.Read(); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
}

// TestEncode: what is written by hand is what encoding/json would write.
func TestEncode(t *testing.T) {
	for _, r := range records() {
		b := r.append(nil)
		var got, want any
		if err := json.Unmarshal(b, &got); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		ref, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = json.Unmarshal(ref, &want)
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %s\nwant %s", b, ref)
		}
	}
}

func TestSeconds(t *testing.T) {
	for text, want := range map[string]Seconds{
		"0": 0, "1": 1e9, "0.000000001": 1, "12.5": 12.5e9, "-0.25": -25e7, "1e-3": 1e6, "0.1234567899": 123456789,
	} {
		var s Seconds
		if err := s.UnmarshalJSON([]byte(text)); err != nil || s != want {
			t.Errorf("%s: %d, %v", text, s, err)
		}
		if b, _ := want.MarshalJSON(); len(text) < 12 && !strings.Contains(text, "e") && string(b) != text {
			t.Errorf("%d: %s", want, b)
		}
	}
	for _, text := range []string{`""`, `"x"`, "1e99", "99999999999999999999", "1.x", "--1", "null"} {
		var s Seconds
		if err := s.UnmarshalJSON([]byte(text)); err == nil {
			t.Errorf("%s: %d", text, s)
		}
	}
}

func TestReadErrors(t *testing.T) {
	head := `{"schema":"alptrace-tcp-log/1","start":"2026-11-22T19:00:00Z","clock":"virtual"}` + "\n"
	for _, c := range []struct{ text, want string }{
		{"", "unexpected EOF"},
		{"nonsense", "line 1 is no header"},
		{`{"schema":"other/1"}`, `schema "other/1"`},
		{head + `{"t":1,"ev":"cc"}` + "\n\n{\"t\":x}\n{}\n", "line 4: "},
		{head + `{"t":1,"ev":"c`, "line 2 is cut off: unexpected EOF"},
		{head + strings.Repeat("x", maxLine+1), "line 2: bufio.Scanner: token too long"},
	} {
		r, _, err := NewReader(strings.NewReader(c.text))
		for err == nil {
			_, err = r.Read()
		}
		if !strings.Contains(err.Error(), c.want) || errors.Is(err, io.EOF) {
			t.Errorf("%.40q: %v, want %s", c.text, err, c.want)
		}
	}
	// Later versions may say more.
	r, _, err := NewReader(strings.NewReader(head + `{"t":1,"ev":"new","more":{"a":[1]}}`))
	if err != nil {
		t.Fatal(err)
	}
	if rec, err := r.Read(); err != nil || rec.Ev != "new" {
		t.Errorf("%+v, %v", rec, err)
	}
}

func FuzzReader(f *testing.F) {
	h := Header{Schema: Schema, Start: start, Clock: Wall}
	b := h.append(nil)
	for _, r := range records() {
		b = r.append(b)
	}
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		r, _, err := NewReader(bytes.NewReader(b))
		for err == nil {
			var rec *Record
			if rec, err = r.Read(); err != nil {
				break
			}
			var again Record
			if e := json.Unmarshal(rec.append(nil), &again); e != nil {
				t.Fatalf("%+v: %v", rec, e)
			}
		}
	})
}

func BenchmarkWrite(b *testing.B) {
	w := NewWriter(io.Discard, Header{})
	r := records()[2]
	b.ReportAllocs()
	for b.Loop() {
		w.Write(&r)
	}
}

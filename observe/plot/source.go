package plot

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alptrace/alptrace/observe/tcplog"
)

// event is one thing that a file tells: a segment or a record of a log.
type event struct {
	t   int64 // ns since 1970
	seg *segment
	rec *tcplog.Record
}

// opener opens a file anew for each pass.
type opener func() (io.ReadCloser, error)

func openFile(path string) opener {
	return func() (io.ReadCloser, error) { return os.Open(path) }
}

// counts are what a pass saw.
type counts struct {
	packets, tcp, records int
	strange               uint32 // a link type that is not read
	isStrange             bool
}

// scan reads a whole file and calls visit for each event, which is valid until
// it returns. An error with counts above zero is where the file stopped making
// sense; everything before it was visited.
func scan(open opener, visit func(*event)) (counts, error) {
	f, err := open()
	if err != nil {
		return counts{}, err
	}
	defer f.Close()
	r := bufio.NewReaderSize(f, 256<<10)
	magic, err := r.Peek(4)
	if err != nil {
		if len(magic) == 0 && errors.Is(err, io.EOF) {
			return counts{}, errors.New("the file is empty")
		}
		return counts{}, cutOff(err)
	}
	switch le, be := binary.LittleEndian.Uint32(magic), binary.BigEndian.Uint32(magic); {
	case le == ngSection:
		return scanPackets(newPcapngReader(r), visit)
	case le == pcapMicro, le == pcapNano, be == pcapMicro, be == pcapNano:
		p, err := newPcapReader(r)
		if err != nil {
			return counts{}, err
		}
		return scanPackets(p, visit)
	case magic[0] == '{':
		return scanLog(r, visit)
	}
	return counts{}, errors.New("neither a capture (pcapng, pcap) nor a tcp-log")
}

func scanPackets(r packetReader, visit func(*event)) (counts, error) {
	var n counts
	var p packet
	var s segment
	ev := event{seg: &s}
	for {
		err := r.next(&p)
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, fmt.Errorf("after packet %d: %w", n.packets, err)
		}
		n.packets++
		ip, known := stripLink(p.linkType, p.data)
		if !known {
			n.strange, n.isStrange = p.linkType, true
			continue
		}
		s = segment{t: p.t, ipLen: p.length - (len(p.data) - len(ip))}
		if !decodeIP(ip, &s) {
			continue
		}
		n.tcp++
		ev.t = p.t
		visit(&ev)
	}
}

func scanLog(r io.Reader, visit func(*event)) (counts, error) {
	var n counts
	log, h, err := tcplog.NewReader(r)
	if err != nil {
		return n, err
	}
	start := h.Start.UnixNano()
	if h.Start.IsZero() || h.Start.Year() < 1800 || h.Start.Year() > 2200 {
		start = 0
	}
	var s segment
	for {
		rec, err := log.Read()
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
		n.records++
		if rec.Host == "" {
			rec.Host = h.Host
		}
		ev := event{t: start + int64(rec.T), rec: rec}
		if rec.Ev == tcplog.EvSegment {
			logSegment(rec, ev.t, &s)
			ev.seg = &s
		}
		visit(&ev)
	}
}

// logSegment fills s from a record of one.
func logSegment(rec *tcplog.Record, t int64, s *segment) {
	*s = segment{
		t: t, src: rec.Local, dst: rec.Remote, seq: rec.Seq, ack: rec.Ack, len: max(rec.Len, 0),
		wnd: rec.Wnd, scaled: true, wscale: -1, hasTS: rec.TS != [2]uint32{}, ts: rec.TS,
		ce: rec.ECN == "ce", host: rec.Host, conn: rec.Conn, segs: max(rec.Segs, 1),
	}
	if rec.Dir == tcplog.DirIn {
		s.src, s.dst = rec.Remote, rec.Local
	}
	s.nsack = copy(s.sack[:], rec.SACK)
	for i, c := range "FSRPA" {
		if strings.ContainsRune(rec.Flags, c) {
			s.flags |= 1 << i
		}
	}
	// The record has no headers: those of its options.
	s.hdrLen = 40
	if s.src.Addr().Is6() {
		s.hdrLen = 60
	}
	if s.hasTS {
		s.hdrLen += 12
	}
	if s.nsack > 0 {
		s.hdrLen += 4 + 8*s.nsack
	}
	s.ipLen = s.hdrLen + s.len
}

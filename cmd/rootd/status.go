package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/alptrace/alptrace/rootd"
	"github.com/alptrace/alptrace/rootd/proto"
)

// printStatus asks the daemon and prints its answer, as a table or as it came.
func printStatus(w io.Writer, socket string, raw bool) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	c, err := proto.Dial(ctx, socket)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	text, err := c.Status()
	if err != nil {
		return err
	}
	if raw {
		_, err = fmt.Fprintf(w, "%s\n", text)
		return err
	}
	var st rootd.Status
	if err := json.Unmarshal(text, &st); err != nil {
		return fmt.Errorf("status: %w", err)
	}
	return table(w, st, time.Now())
}

// table prints the status for people.
func table(w io.Writer, st rootd.Status, now time.Time) error {
	fmt.Fprintf(w, "rootd %d, up %s: %d of %d leases, %d of %d grants (%d TCP ports held back)\n",
		st.PID, age(now.Sub(st.Since)), len(st.Leases), st.MaxLeases, st.Grants, st.MaxGrants, st.HeldBack)
	if len(st.Leases) == 0 {
		return nil
	}
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "USER\tPID\tPROGRAM\tDEVICE\tAGE\tGRANTS\tRX PACKETS\tRX BYTES\tTX PACKETS\tTX BYTES\tDROPS")
	for _, l := range st.Leases {
		grants := strconv.Itoa(l.Grants)
		if l.Naked > 0 {
			grants += fmt.Sprintf(" (%d not reserved)", l.Naked)
		}
		program := cmp.Or(l.Program, l.Command, "-")
		if l.Waiting {
			program += " (to be resumed)"
		}
		fmt.Fprintf(tw, "%s\t%d\t%s\t%s\t%s\t%s\t%d\t%s\t%d\t%s\t%s\n", userName(l.UID), l.PID, program, l.Device,
			age(now.Sub(l.Since)), grants, l.RxPackets, size(l.RxBytes), l.TxPackets, size(l.TxBytes), drops(l.Drops))
	}
	return tw.Flush()
}

func userName(uid uint32) string {
	id := strconv.FormatUint(uint64(uid), 10)
	if u, err := user.LookupId(id); err == nil {
		return u.Username
	}
	return id
}

func age(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	default:
		return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
	}
}

// size is n bytes with a binary prefix.
func size(n uint64) string {
	const units = "KMGTPE"
	if n < 1024 {
		return fmt.Sprintf("%d B", n)
	}
	v, i := float64(n)/1024, 0
	for ; v >= 1024; i++ {
		v /= 1024
	}
	return fmt.Sprintf("%.1f %ciB", v, units[i])
}

// drops is "3 not granted, 1 no route", the most first.
func drops(by map[string]uint64) string {
	reasons := slices.SortedFunc(maps.Keys(by), func(a, b string) int {
		return cmp.Or(cmp.Compare(by[b], by[a]), cmp.Compare(a, b))
	})
	var parts []string
	for _, why := range reasons {
		if by[why] > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", by[why], why))
		}
	}
	return cmp.Or(strings.Join(parts, ", "), "-")
}

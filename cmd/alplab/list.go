package main

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/alptrace/alptrace/stack/tcp"
)

// listCommand prints what can be chosen with --tcp alp.
func listCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "list the pieces and settings of --tcp alp",
		Long: `list prints the implementations of every replaceable piece of alptrace's own TCP,
and its settings, as they are given to alptrace: --tcp alp,OPTION=VALUE,...`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return list(cmd.OutOrStdout()) },
	}
}

func list(out io.Writer) error {
	c := tcp.NewConfig()
	pieces := []struct{ what, option, value string }{
		{"congestion control", "cc", c.CongestionControl},
		{"ACK policy of the receiver", "ack", c.AckPolicy},
		{"loss detection", "recovery", c.Recovery},
		{"RTO estimator", "rto", c.RTO},
		{"pacer", "pace", c.Pacer},
		{"ACK checker of the sender", "check", c.AckChecker},
	}
	names := map[string][]string{
		"cc": tcp.CongestionControls(), "ack": tcp.AckPolicies(), "recovery": tcp.LossDetectors(),
		"rto": tcp.RTOEstimators(), "pace": tcp.Pacers(), "check": tcp.AckCheckers(),
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "PIECE\tOPTION\tDEFAULT\tVALUES")
	for _, p := range pieces {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", p.what, p.option, p.value, strings.Join(names[p.option], " "))
	}
	fmt.Fprintln(w, "\nSETTING\tMEANING")
	for _, s := range tcp.Settings() {
		if names[s[0]] == nil {
			fmt.Fprintf(w, "%s\t%s\n", s[0], s[1])
		}
	}
	return w.Flush()
}

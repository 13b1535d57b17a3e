package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/alptrace/alptrace/lab"
)

func statusCommand() *cobra.Command {
	var name string
	var asJSON bool
	c := &cobra.Command{
		Use:   "status",
		Short: "show the hosts, programs and links of a running lab",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			s, err := lab.AskStatus("", name)
			if err != nil {
				return err
			}
			if asJSON {
				e := json.NewEncoder(os.Stdout)
				e.SetIndent("", "  ")
				return e.Encode(s)
			}
			printStatus(os.Stdout, s)
			return nil
		},
	}
	labFlag(c, &name)
	c.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return c
}

// labFlag is --lab, of all commands that need a running lab.
func labFlag(c *cobra.Command, name *string) {
	c.Flags().StringVarP(name, "lab", "l", "", "the `NAME` of the lab, if several are running")
}

func printStatus(w io.Writer, s *lab.Status) {
	fmt.Fprintf(w, "lab %s (pid %d), up %v, in %s\n\n", s.Name, s.Pid, s.Uptime.Round(10*time.Millisecond), s.Dir)
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(tw, "HOST\tINTERFACE\tADDRESSES\tPACKETS IN\tOUT\tRETRANS")
	for _, n := range s.Nodes {
		name, counts := n.Name, fmt.Sprintf("%d\t%d\t%d", n.PacketsIn, n.PacketsOut, n.Retrans)
		if n.Kind == "router" {
			name += " (router)"
		}
		if len(n.Interfaces) == 0 {
			fmt.Fprintf(tw, "%s\t-\t-\t%s\n", name, counts)
		}
		for _, i := range n.Interfaces {
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\n", name, i.Name, strings.Join(i.Addrs, " "), counts)
			name, counts = "", "\t\t"
		}
	}
	tw.Flush()
	fmt.Fprintln(w)
	fmt.Fprintln(tw, "PROGRAM\tPID\tSTATE\tEXIT\tCOMMAND")
	for _, n := range s.Nodes {
		for _, p := range n.Programs {
			name, pid := n.Name+"/"+p.Name, "-"
			if p.Exec {
				name += " (exec)"
			}
			if p.Pid != 0 {
				pid = fmt.Sprint(p.Pid)
			}
			exit := p.Exit
			if exit == "" {
				exit = "-"
			}
			fmt.Fprintf(tw, "%s\t%s\t%s\t%s\t%s\n", name, pid, p.State, exit, shorten(strings.Join(p.Argv, " "), 60))
		}
	}
	tw.Flush()
	fmt.Fprintln(w)
	fmt.Fprintln(tw, "LINK\tFROM\tTO\tPACKETS\tBYTES\tDROPPED\tMARKED\tQUEUE\tIMPAIRMENT")
	for _, k := range s.Links {
		for _, d := range []struct {
			from, to string
			lab.WayStatus
		}{{k.A, k.B, k.AB}, {k.B, k.A, k.BA}} {
			impairment := d.Impair
			if impairment == "" {
				impairment = "-"
			}
			fmt.Fprintf(tw, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\n", k.Name, d.from, d.to,
				d.Delivered, d.DeliveredBytes, d.Drops(), d.Marks, d.QueueLen, impairment)
		}
	}
	tw.Flush()
}

// shorten cuts what is longer than n bytes, and says so.
func shorten(s string, n int) string {
	s = strings.ReplaceAll(s, "\n", " ")
	if len(s) > n {
		return s[:n-3] + "..."
	}
	return s
}

// summary writes the last status of a run into its folder.
func summary(dir string, s *lab.Status) error {
	f, err := os.Create(filepath.Join(dir, "summary.txt"))
	if err != nil {
		return err
	}
	printStatus(f, s)
	if err := f.Close(); err != nil {
		return err
	}
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "summary.json"), append(b, '\n'), 0o644)
}

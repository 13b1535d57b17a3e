package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/alptrace/alptrace/lab"
	"github.com/alptrace/alptrace/tracer/launch"
)

func execCommand() *cobra.Command {
	var name string
	var byLab bool
	c := &cobra.Command{
		Use:   "exec HOST PROG [ARG...]",
		Short: "run a program on a host of a running lab",
		Long: `exec runs PROG on a host of a running lab, with the terminal, the folder and the
environment of the caller, and ends as it ends.`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			ws, err := lab.Exec("", name, args[0], args[1:], byLab)
			var le *launch.Error
			switch {
			case errors.As(err, &le):
				fmt.Fprintf(os.Stderr, "alplab: %v\n", err)
				return exitCode(le.ExitCode())
			case err != nil:
				fmt.Fprintf(os.Stderr, "alplab: %v\n", err)
				return exitCode(125)
			}
			launch.ExitLike(ws)
			return nil
		},
	}
	labFlag(c, &name)
	c.Flags().BoolVar(&byLab, "by-lab", false, "the lab starts PROG, which so has no controlling terminal; default where Yama's ptrace_scope is not 0")
	c.Flags().SetInterspersed(false) // what follows HOST is PROG's
	return c
}

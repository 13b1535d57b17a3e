// Command alplab runs networks that a file describes: hosts, links, routers and
// switches, with real programs or in virtual time. See alplab(1).
package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

func main() {
	root := rootCommand()
	err := root.Execute()
	var code exitCode
	switch {
	case errors.As(err, &code):
		os.Exit(int(code))
	case err != nil:
		fmt.Fprintf(os.Stderr, "alplab: %v\n", err)
		os.Exit(2)
	}
}

// exitCode is the error of a command that has said all there is to say.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit status %d", int(c)) }

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "alplab",
		Short:         "networks on one machine, without root",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	// One line for each command; each has a file of its own.
	root.AddCommand(upCommand(), simCommand(), execCommand(), pcapCommand(), statusCommand(), plotCommand(),
		sweepCommand(), mergeCommand(), sweepWorkerCommand())
	return root
}

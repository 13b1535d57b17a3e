// Command alplab runs networks that a file describes: hosts, links, routers and
// switches, with real programs or in virtual time. See alplab(1).
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
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

// blankValues takes the values of flags that are on or off out of the help, where
// they say nothing.
var blankValues = strings.NewReplacer("[=true|false]", "             ")

func rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "alplab",
		Short:         "networks on one machine, without root",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	if bi, ok := debug.ReadBuildInfo(); ok {
		root.Version = bi.Main.Version
	}
	cobra.AddTemplateFunc("flags", func(f *pflag.FlagSet) string { return blankValues.Replace(f.FlagUsages()) })
	root.SetUsageTemplate(strings.NewReplacer(".LocalFlags.FlagUsages", "flags .LocalFlags", ".InheritedFlags.FlagUsages", "flags .InheritedFlags").
		Replace(root.UsageTemplate()))
	// One line for each command; each has a file of its own.
	root.AddCommand(upCommand(), simCommand(), execCommand(), pcapCommand(), statusCommand(), plotCommand(),
		sweepCommand(), mergeCommand(), sweepWorkerCommand(), listCommand(), buildCommand())
	return root
}

package main

import (
	"context"
	"io"
	"os"
	"os/signal"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/alptrace/alptrace/lab"
)

func pcapCommand() *cobra.Command {
	var name, file string
	c := &cobra.Command{
		Use:   "pcap HOST[:ethN]|LINK",
		Short: "capture packets of a running lab",
		Long: `pcap writes the packets that pass an interface of a running lab in pcapng, until
the lab ends or ^C:

    alplab pcap client1 | tshark -r -`,
		Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			var w io.Writer = os.Stdout
			if file != "-" {
				f, err := os.Create(file)
				if err != nil {
					return err
				}
				defer f.Close()
				w = f
			}
			ctx, stop := signal.NotifyContext(context.Background(), unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
			defer stop()
			return lab.Pcap(ctx, "", name, args[0], w)
		},
	}
	labFlag(c, &name)
	c.Flags().StringVarP(&file, "write", "w", "-", "the `FILE` to write, - for standard output")
	return c
}

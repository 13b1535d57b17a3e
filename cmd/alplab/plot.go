package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/alptrace/alptrace/observe/plot"
)

// plotCommand draws captures and tcp-logs; docs/plots.md.
func plotCommand() *cobra.Command {
	var o plot.Options
	var out, format string
	var list bool
	c := &cobra.Command{
		Use:   "plot FILE...",
		Short: "draw captures (pcapng, pcap) and tcp-logs",
		Args:  cobra.MinimumNArgs(1),
		Example: `  alplab plot run.pcapng -o run.svg
  alplab plot --kind seq --conn :443 --from 1.2s --to 1.5s run.pcapng -o zoom.pdf
  alplab plot --kind cwnd,throughput --label CUBIC,BBR --size column a.tcp b.tcp -o cc.pdf`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if list {
				warnings, err := plot.List(cmd.OutOrStdout(), args, o)
				warnAll(cmd, warnings)
				return err
			}
			return runPlot(cmd, args, o, out, format)
		},
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringVarP(&out, "out", "o", "", "the picture: `FILE` (.svg, .png, .pdf, or .csv for the numbers), - for standard output")
	f.StringVar(&format, "format", "", "svg, png, pdf or csv, where the file's name does not say")
	f.StringSliceVar(&o.Kinds, "kind", nil, "panels: seq, cwnd, rtt, throughput, queue (default: what the files hold)")
	f.StringArrayVar(&o.Conns, "conn", nil, "only this connection: `INDEX`, ADDR:PORT, :PORT, ADDR or a program's name (repeatable; default: the largest)")
	f.BoolVar(&list, "list", false, "list the connections and draw nothing")
	f.DurationVar(&o.From, "from", 0, "show from this `TIME` on, as 1.5s")
	f.DurationVar(&o.To, "to", 0, "show up to this `TIME`")
	f.StringSliceVar(&o.Labels, "label", nil, "`NAMES` of the files, in their order (default: the files' own)")
	f.StringVar(&o.Title, "title", "", "a `TEXT` above the picture")
	f.StringVar(&o.Size, "size", "page", "column (3.45in), page (7.16in), slide, or WIDTHxHEIGHT as 12cmx8cm")
	f.StringVar(&o.Palette, "palette", "okabe-ito", "colours: okabe-ito, tol-bright or gray")
	f.DurationVar(&o.Bin, "bin", 0, "over which `TIME` throughput is taken (default: about 1/120 of what is shown)")
	f.BoolVar(&o.Reverse, "reverse", false, "the direction with less data, in place of that with more")
	f.StringVar(&o.Align, "align", plot.AlignAuto, "several files: each from 0 (start), or by their clocks (clock); auto: by their clocks if they overlap")
	return c
}

func runPlot(cmd *cobra.Command, args []string, o plot.Options, out, format string) error {
	if out == "" {
		return errors.New("plot: -o FILE says where to (.svg, .png, .pdf, .csv)")
	}
	if format == "" {
		format = strings.TrimPrefix(strings.ToLower(filepath.Ext(out)), ".")
		if out == "-" {
			format = plot.SVG
		}
	}
	if err := plot.CheckFormat(format); err != nil {
		return err
	}
	p, err := plot.Load(args, o)
	if err != nil {
		return err
	}
	warnAll(cmd, p.Warnings)
	if out == "-" {
		return p.Write(cmd.OutOrStdout(), format)
	}
	return writeFile(out, func(w io.Writer) error { return p.Write(w, format) })
}

func warnAll(cmd *cobra.Command, warnings []string) {
	for _, w := range warnings {
		fmt.Fprintf(cmd.ErrOrStderr(), "alplab: %s\n", w)
	}
}

// writeFile writes a file whole or not at all.
func writeFile(path string, write func(io.Writer) error) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	if err := errors.Join(write(f), f.Chmod(0o644), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

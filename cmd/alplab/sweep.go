package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/alptrace/alptrace/sim/sweep"
)

// sweepOptions are the flags of alplab sweep.
type sweepOptions struct {
	out     []string
	set     []string
	shard   string
	k8s     string
	shards  int
	jobs    int
	timeout time.Duration
	retry   bool
	restart bool
	list    bool
}

// sweepCommand runs a lab file's grid of parameters; docs/sweep.md.
func sweepCommand() *cobra.Command {
	var o sweepOptions
	c := &cobra.Command{
		Use:   "sweep FILE",
		Short: "simulate a lab for every combination of its parameters",
		Args:  cobra.ExactArgs(1),
		Example: `  alplab sweep dumbbell.toml -o results.csv -o results.parquet
  alplab sweep dumbbell.toml --set rate=50mbit --set rate=100mbit --timeout 1m
  alplab sweep dumbbell.toml --shard 3/8 -o results.csv
  alplab merge results.csv.*-of-8.rows -o results.csv
  alplab sweep dumbbell.toml --k8s registry.example/alplab:v1 -n 8 > job.yaml`,
		RunE: func(cmd *cobra.Command, args []string) error { return runSweep(cmd, args[0], o) },
	}
	f := c.Flags()
	f.SortFlags = false
	f.StringArrayVarP(&o.out, "out", "o", nil, "the table: `FILE`.csv or .parquet (repeatable; default: the lab file's name with .csv)")
	f.StringArrayVar(&o.set, "set", nil, "`NAME=VALUE` instead of what [sweep] has for NAME (repeatable: several values)")
	f.IntVarP(&o.jobs, "jobs", "j", 0, "how many simulations at once (default: one for each processor)")
	f.DurationVar(&o.timeout, "timeout", 0, "a row that takes longer has failed, as 30s (default: no limit)")
	f.BoolVar(&o.retry, "retry", false, "run the rows again that failed before")
	f.BoolVar(&o.restart, "restart", false, "begin anew, whatever was done before")
	f.StringVar(&o.shard, "shard", "", "only part `I/N` of the rows, for alplab merge; I may be auto in a Kubernetes Indexed Job or a Slurm array")
	f.BoolVar(&o.list, "list", false, "list the rows and run nothing")
	f.StringVar(&o.k8s, "k8s", "", "write a Kubernetes Indexed Job that runs the sweep with this `IMAGE`, and run nothing")
	f.IntVarP(&o.shards, "shards", "n", 8, "in how many shards the Job runs it")
	c.MarkFlagsMutuallyExclusive("shard", "k8s", "list")
	c.MarkFlagsMutuallyExclusive("retry", "restart")
	return c
}

// mergeCommand puts the shards of a sweep together.
func mergeCommand() *cobra.Command {
	var out []string
	c := &cobra.Command{
		Use:     "merge SHARD...",
		Short:   "make the table of a sweep from its shards",
		Args:    cobra.MinimumNArgs(1),
		Example: `  alplab merge results.csv.*-of-8.rows -o results.csv`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutputs(out); err != nil {
				return err
			}
			t, failed, err := sweep.Merge(args)
			if err != nil {
				return err
			}
			if err := sweep.WriteTables(out, t); err != nil {
				return err
			}
			return report(cmd.ErrOrStderr(), len(t.Rows), failed, strings.Join(out, ", "))
		},
	}
	c.Flags().StringArrayVarP(&out, "out", "o", nil, "the table: `FILE`.csv or .parquet (repeatable)")
	_ = c.MarkFlagRequired("out") // it exists
	return c
}

// sweepWorkerCommand is a worker process of alplab sweep.
func sweepWorkerCommand() *cobra.Command {
	return &cobra.Command{
		Use:    "sweep-worker",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE:   func(*cobra.Command, []string) error { return sweep.Work(sweep.Simulate) },
	}
}

func checkOutputs(out []string) error {
	for _, p := range out {
		if err := sweep.CheckOutput(p); err != nil {
			return err
		}
	}
	return nil
}

// report ends a command whose table is written: its status says whether rows failed.
func report(w io.Writer, rows, failed int, where string) error {
	if failed == 0 {
		fmt.Fprintf(w, "%d rows: %s\n", rows, where)
		return nil
	}
	fmt.Fprintf(w, "%d rows, %d of them failed (see their error): %s\n", rows, failed, where)
	return exitCode(1)
}

func runSweep(cmd *cobra.Command, file string, o sweepOptions) error {
	p, err := sweep.Open(file, o.set)
	if err != nil {
		return err
	}
	if len(o.out) == 0 {
		o.out = []string{p.Base() + ".csv"}
	}
	if err := checkOutputs(o.out); err != nil {
		return err
	}
	switch {
	case o.list:
		return p.List(cmd.OutOrStdout())
	case o.k8s != "":
		return writeJob(cmd.OutOrStdout(), p, o)
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	if p.Program, err = programVersion(exe); err != nil {
		return err
	}
	c := sweep.Config{
		Shard: sweep.Whole, Outputs: o.out, Log: o.out[0] + ".rows",
		Worker: []string{exe, "sweep-worker"}, Jobs: o.jobs,
		Timeout: o.timeout, Retry: o.retry, Restart: o.restart,
		Progress: sweep.NewProgress(os.Stderr, term.IsTerminal(int(os.Stderr.Fd()))),
	}
	where := strings.Join(o.out, ", ")
	if o.shard != "" {
		if c.Shard, err = sweep.ParseShard(o.shard, os.Getenv); err != nil {
			return err
		}
		c.Log = fmt.Sprintf("%s.%d-of-%d.rows", o.out[0], c.Shard.Index, c.Shard.Count)
		where = c.Log
	}
	ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	s, err := sweep.Run(ctx, p, c)
	if s.Dropped > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s: a torn end of %d bytes was dropped, and its rows run again\n", c.Log, s.Dropped)
	}
	var other *sweep.MismatchError
	switch {
	case errors.Is(err, context.Canceled):
		fmt.Fprintf(cmd.ErrOrStderr(), "interrupted: %s has what was done; the same command goes on from there\n", c.Log)
		return exitCode(130)
	case errors.As(err, &other):
		return fmt.Errorf("%w\nan unfinished sweep, or one with failed rows, is there: --restart forgets it", err)
	case err != nil:
		return err
	}
	return report(cmd.ErrOrStderr(), s.Rows, s.Failed, where)
}

// writeJob writes the sweep for a Kubernetes cluster.
func writeJob(w io.Writer, p *sweep.Plan, o sweepOptions) error {
	j := sweep.Job{
		Name: p.Base(), Image: o.k8s, Shards: o.shards, Table: filepath.Base(o.out[0]),
		File: filepath.Base(p.Name), Files: p.Files(),
	}
	for _, s := range o.set {
		j.Args = append(j.Args, "--set", s)
	}
	if o.timeout > 0 {
		j.Args = append(j.Args, "--timeout", o.timeout.String())
	}
	return j.Write(w)
}

// programVersion is what tells the results of two programs apart: the version, and for
// one that was not built from a commit as it stands a digest of the program too.
func programVersion(exe string) (string, error) {
	version := "(devel)"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		version = info.Main.Version
	}
	if version != "(devel)" && !strings.Contains(version, "dirty") {
		return version, nil
	}
	f, err := os.Open(exe)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return fmt.Sprintf("%s %x", version, h.Sum(nil)[:6]), nil
}

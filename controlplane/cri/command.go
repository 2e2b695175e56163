// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/waggle-net/waggle/controlplane/layout"
)

// ExitError is the exit code of a command that ran in a container: it is to be that
// of this process, and there is nothing to print.
type ExitError struct{ Code int }

func (e *ExitError) Error() string { return "exit code " + strconv.Itoa(e.Code) }

// Native runs containerd's own command line with these arguments.
type Native func(l layout.Layout, args []string) error

// tool is what the commands have in common.
type tool struct {
	layout layout.Layout // as the flags say
	native Native
	now    func() time.Time
	pause  func(context.Context, time.Duration) error
}

// Command is `waggle-kube ctr`. Its errors may be an *ExitError.
func Command(native Native) *cobra.Command {
	return (&tool{native: native, now: time.Now, pause: pause}).command()
}

// pause waits between two samples.
func pause(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func (t *tool) command() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ctr",
		Short: "Look at this node's pods, containers and images, also when the API is away",
		Long: `Look at this node's pods, containers and images, also when the API is away.

The commands are those of crictl. An ID may be shortened to a beginning that no
other has. What follows -- goes to containerd's own command line, ctr:

  waggle-kube ctr -- images check`,
		Args:          cobra.ArbitraryArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          t.runNative,

		SuggestionsMinimumDistance: 2,
	}
	f := cmd.PersistentFlags()
	f.StringVar(&t.layout.Data, "data-dir", layout.DefaultDataDir, "the server's data folder")
	f.StringVar(&t.layout.Run, "run-dir", layout.DefaultRunDir, "the server's run folder")
	for _, name := range []string{"data-dir", "run-dir"} {
		_ = f.MarkHidden(name) // it exists
	}
	cmd.AddCommand(
		t.podsCommand(), t.psCommand(), t.imagesCommand(),
		t.inspectCommand(), t.inspectPodCommand(), t.inspectImageCommand(),
		t.logsCommand(), t.execCommand(), t.statsCommand(), t.podStatsCommand(),
		t.stopCommand(), t.stopPodCommand(), t.removeCommand(), t.removePodCommand(), t.stopAllCommand(),
		t.removeImageCommand(), t.pullCommand(), t.infoCommand(), t.versionCommand(),
	)
	return cmd
}

func (t *tool) runNative(cmd *cobra.Command, args []string) error {
	switch {
	case cmd.ArgsLenAtDash() == 0 && len(args) != 0:
		return t.native(t.layout, args)
	case len(args) == 0:
		return cmd.Help()
	}
	hint := "see `waggle-kube ctr --help`, or write `waggle-kube ctr -- " + args[0] + "` for containerd's own command line"
	if near := cmd.SuggestionsFor(args[0]); len(near) != 0 {
		hint = "did you mean " + strings.Join(near, " or ") + "? " + hint
	}
	return fmt.Errorf("unknown command %q: %s", args[0], hint)
}

// connected is a command's RunE with a client for it.
func (t *tool) connected(run func(ctx context.Context, c *client, cmd *cobra.Command, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		ctx := quiet(cmd.Context())
		c, err := connect(ctx, t.layout)
		if err != nil {
			return err
		}
		defer c.close(ctx)
		return run(ctx, c, cmd, args)
	}
}

// takes says how many arguments a command has; below zero is no limit.
func takes(least, most int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if n := len(args); n < least || most >= 0 && n > most {
			return fmt.Errorf("%s: got %d arguments: write `waggle-kube ctr %s`, and see its --help", cmd.Name(), n, cmd.Use)
		}
		return nil
	}
}

// parseLabels reads filters such as app=web.
func parseLabels(args []string) (map[string]string, error) {
	labels := make(map[string]string, len(args))
	for _, a := range args {
		key, value, ok := strings.Cut(a, "=")
		if !ok || key == "" {
			return nil, fmt.Errorf("--label %q: want key=value", a)
		}
		labels[key] = value
	}
	return labels, nil
}

// parseState reads a state as the tables print it, in any case.
func parseState[S ~int32](arg string, names map[S]string) (S, error) {
	var known []string
	for s := S(0); int(s) < len(names); s++ {
		if strings.EqualFold(arg, names[s]) {
			return s, nil
		}
		known = append(known, strings.ToLower(names[s]))
	}
	return 0, fmt.Errorf("--state %q: use %s", arg, strings.Join(known, ", "))
}

// pattern is a regular expression of a flag. None matches everything.
func pattern(flag, arg string) (*regexp.Regexp, error) {
	re, err := regexp.Compile(arg)
	if err != nil {
		return nil, fmt.Errorf("--%s %q: not a regular expression: %w", flag, arg, err)
	}
	return re, nil
}

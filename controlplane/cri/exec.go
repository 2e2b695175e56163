// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	remote "k8s.io/cri-client/pkg"
	"k8s.io/kubectl/pkg/util/term"
)

// execOptions are the flags of exec.
type execOptions struct {
	stdin, tty bool
	timeout    time.Duration
}

func (t *tool) execCommand() *cobra.Command {
	var o execOptions
	cmd := &cobra.Command{
		Use:   "exec [-i] [-t] CONTAINER COMMAND [ARG...]",
		Short: "Run a command in a container, and end with its exit code",
		Long: `Run a command in a container, and end with its exit code.

Without -i or -t its output is printed when it has ended, at most 16 MB of it;
with one of them as it comes.`,
		Args: takes(2, -1),
		RunE: t.connected(func(ctx context.Context, c *client, cmd *cobra.Command, args []string) error {
			id, err := c.container(ctx, args[0])
			if err != nil {
				return err
			}
			if o.stdin || o.tty {
				return c.execStream(ctx, cmd, id, args[1:], o)
			}
			return c.execSync(ctx, cmd, id, args[1:], o.timeout)
		}),
	}
	f := cmd.Flags()
	f.SetInterspersed(false) // what follows the container is the command's
	f.BoolVarP(&o.stdin, "interactive", "i", false, "pass standard input on")
	f.BoolVarP(&o.tty, "tty", "t", false, "give it a terminal")
	f.DurationVar(&o.timeout, "timeout", 0, "without -i and -t: end the command after this time, in whole seconds; 0 is never")
	cmd.PreRunE = func(*cobra.Command, []string) error {
		switch {
		case o.timeout < 0 || o.timeout%time.Second != 0:
			return fmt.Errorf("--timeout %s: want whole seconds", o.timeout)
		case o.timeout != 0 && (o.stdin || o.tty):
			return errors.New("--timeout cannot be used with -i or -t")
		}
		return nil
	}
	return cmd
}

func (c *client) execSync(ctx context.Context, cmd *cobra.Command, id string, command []string, timeout time.Duration) error {
	stdout, stderr, err := c.runtime.ExecSync(ctx, id, command, timeout)
	_, outErr := cmd.OutOrStdout().Write(stdout)
	_, errErr := cmd.ErrOrStderr().Write(stderr)
	if errors.Is(err, remote.ErrCommandTimedOut) {
		return fmt.Errorf("execute in container %s: it did not end within %s and was ended", id, timeout)
	}
	if err := execError(id, err); err != nil {
		return err
	}
	return errors.Join(outErr, errErr)
}

// execStream runs a command whose streams are this process's own. containerd gives a
// URL for it, on the loopback device, that is of use once.
func (c *client) execStream(ctx context.Context, cmd *cobra.Command, id string, command []string, o execOptions) error {
	streams := remotecommand.StreamOptions{Stdout: cmd.OutOrStdout(), Tty: o.tty}
	terminal := term.TTY{Out: cmd.OutOrStdout(), Raw: o.tty}
	if o.stdin {
		streams.Stdin, terminal.In = cmd.InOrStdin(), cmd.InOrStdin()
		if o.tty && !terminal.IsTerminalIn() {
			return errors.New("exec -t: standard input is not a terminal: leave -t or -i away")
		}
	}
	if !o.tty { // a terminal has but one stream
		streams.Stderr = cmd.ErrOrStderr()
	}
	resp, err := c.runtime.Exec(ctx, &runtimeapi.ExecRequest{
		ContainerId: id, Cmd: command, Tty: o.tty, Stdin: o.stdin, Stdout: true, Stderr: !o.tty,
	})
	if err != nil {
		return execError(id, err)
	}
	executor, err := streamTo(resp.Url)
	if err != nil {
		return execError(id, err)
	}
	if o.tty && terminal.IsTerminalOut() {
		streams.TerminalSizeQueue = windowSizes{terminal.MonitorSize(terminal.GetSize())}
	}
	return execError(id, terminal.Safe(func() error { return executor.StreamWithContext(ctx, streams) }))
}

// windowSizes are those of one library for the other, which names them differently.
type windowSizes struct{ term.TerminalSizeQueue }

func (w windowSizes) Next() *remotecommand.TerminalSize {
	size := w.TerminalSizeQueue.Next()
	if size == nil {
		return nil
	}
	return &remotecommand.TerminalSize{Width: size.Width, Height: size.Height}
}

func streamTo(address string) (remotecommand.Executor, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	// Whoever can ask for the URL is root on this node, as is who answers.
	return remotecommand.NewSPDYExecutor(&rest.Config{TLSClientConfig: rest.TLSClientConfig{Insecure: true}}, "POST", u)
}

// exitStatus is how libraries tell a command's exit code.
type exitStatus interface {
	error
	ExitStatus() int
}

func execError(id string, err error) error {
	var exit exitStatus
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit):
		return &ExitError{Code: exit.ExitStatus()}
	}
	return fmt.Errorf("execute in container %s: %w", id, plain(err))
}

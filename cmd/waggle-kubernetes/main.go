// SPDX-License-Identifier: Apache-2.0

// Command waggle-kubernetes is what waggle-kube runs of Kubernetes: a control plane
// and a node, each a process, and kubectl. People call waggle-kube, which calls this.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/waggle-net/waggle/controlplane/config"
	"github.com/waggle-net/waggle/controlplane/cri"
	"github.com/waggle-net/waggle/controlplane/health"
	"github.com/waggle-net/waggle/internal/version"
)

func main() { os.Exit(run()) }

func run() int {
	if args, is := asKubectl(os.Args); is {
		return kubectl(args)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := root().ExecuteContext(ctx)
	if exit, ok := errors.AsType[*cri.ExitError](err); ok {
		return exit.Code // of the command in a container, which has said why
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, displayName+":", err)
		return 1
	}
	return 0
}

// asKubectl returns kubectl's arguments if it is called: by the program's name as by
// the first argument, so that a link to it is kubectl.
func asKubectl(args []string) (rest []string, is bool) {
	switch {
	case len(args) > 0 && filepath.Base(args[0]) == "kubectl":
		return args[1:], true
	case len(args) > 1 && args[1] == "kubectl":
		return args[2:], true
	}
	return nil, false
}

// displayName is what help and errors call the program: what a person typed.
const displayName = "waggle-kube"

func root() *cobra.Command {
	cmd := &cobra.Command{
		Use:           "waggle-kubernetes",
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: displayName},
		Short:         "The parts of Kubernetes that waggle-kube runs",
		SilenceUsage:  true,
		SilenceErrors: true,
		Version:       version.String() + ", Kubernetes " + version.Kubernetes,
	}
	// Or else it is that of the libraries in this program, which cobra stumbles over.
	cmd.Flags().Bool("version", false, "print the version, and that of Kubernetes")
	cmd.AddCommand(controlPlaneCommand(), nodeCommand(), ctrCommand(), snapshotCommand())
	return cmd
}

// process runs one of the long-lived commands: it reads the node's configuration,
// and answers for its health on the socket of its name while it runs.
func process(cmd *cobra.Command, name, path string, run func(context.Context, *config.Config, *health.Board, *slog.Logger) error) error {
	if path == "" {
		return fmt.Errorf("%s: no configuration: waggle-kube server writes it and starts this process; by hand, --config names it", name)
	}
	c, err := config.Read(path)
	if err != nil {
		return err
	}
	// Kubernetes would take what is meant for the supervisor, and some of it does so
	// before it is ready.
	for _, name := range []string{"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"} {
		if err := os.Unsetenv(name); err != nil {
			return fmt.Errorf("clear the environment: %w", err)
		}
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: c.LogLevel}))
	log.Info("starting", "process", name, "version", version.String(), "kubernetes", version.Kubernetes)
	board := health.NewBoard(name, version.String(), version.Kubernetes)

	// Health is told until the very end, also while the components stop.
	serving, stop := context.WithCancel(context.WithoutCancel(cmd.Context()))
	served := make(chan error, 1)
	go func() { served <- board.Serve(serving, c.Layout().Socket(name), log) }()
	err = run(cmd.Context(), c, board, log)
	stop()
	return errors.Join(err, <-served)
}

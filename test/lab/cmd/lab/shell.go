// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/waggle-net/waggle/test/lab"
)

func newShell(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "shell HOST|HOST/POD|HOST/NAMESPACE/POD [-- COMMAND...]",
		Short: "Run a shell or a command inside a host or a pod",
		Example: `  waggle-lab shell node1
  waggle-lab shell router -- ip route
  waggle-lab shell node1/pod1 -- curl http://10.96.0.10/`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			l, err := lab.Open(*name)
			if err != nil {
				return err
			}
			inside, err := locate(l, args[0])
			if err != nil {
				return err
			}
			// Our own programs are what one looks around with.
			if err := os.Setenv("PATH", l.BinDir+":"+os.Getenv("PATH")); err != nil {
				return err
			}
			argv := args[1:]
			if len(argv) == 0 {
				argv = shellArgv(args[0])
			}
			// Ctrl-C is for the program inside, which shares our terminal.
			signal.Ignore(syscall.SIGINT)
			c := inside(context.WithoutCancel(cmd.Context()), argv[0], argv[1:]...)
			c.Stdin, c.Stdout, c.Stderr = os.Stdin, os.Stdout, os.Stderr
			return c.Run()
		},
	}
}

// shellArgv starts a shell whose prompt says where it is.
func shellArgv(where string) []string {
	return []string{"env", "PS1=" + where + "# ", "PROMPT_COMMAND=", "bash", "--norc", "-i"}
}

// command makes commands that run inside a host or a pod.
type command func(ctx context.Context, name string, args ...string) *exec.Cmd

// locate finds a host by "node1" and a pod by "node1/web" or "node1/kube-system/web".
func locate(l *lab.Lab, where string) (command, error) {
	parts := strings.Split(where, "/")
	h := l.Host(parts[0])
	if h == nil {
		var names []string
		for _, h := range l.Hosts() {
			names = append(names, h.Name)
		}
		return nil, fmt.Errorf("find host %s: lab %s has %s", parts[0], l.Name, strings.Join(names, ", "))
	}
	namespace, pod := "default", ""
	switch len(parts) {
	case 1:
		return h.Command, nil
	case 2:
		pod = parts[1]
	case 3:
		namespace, pod = parts[1], parts[2]
	default:
		return nil, fmt.Errorf("find %s: want HOST, HOST/POD or HOST/NAMESPACE/POD", where)
	}
	p, err := h.Pod(namespace, pod)
	if err != nil {
		return nil, fmt.Errorf("%w (waggle-lab status lists pods)", err)
	}
	return p.Command, nil
}

// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	guestbookdemo "github.com/waggle-net/waggle/deploy/demo"
	"github.com/waggle-net/waggle/test/lab"
	"github.com/waggle-net/waggle/test/lab/cluster"
)

func newCluster(name *string) *cobra.Command {
	var (
		o        cluster.Options
		images   string
		withDemo bool
	)
	cmd := &cobra.Command{
		Use:   "cluster",
		Short: "Bring up Kubernetes on one node that this machine reaches, with a demo",
		Long: "Bring up Kubernetes on one node that this machine reaches, with a demo. It can be\n" +
			"repeated: what runs is left running, and only what has changed is replaced.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			o.Name, o.Progress = *name, cmd.ErrOrStderr()
			if o.Kubeconfig == "" {
				o.Kubeconfig = defaultKubeconfig(*name)
			}
			var err error
			if o.Kubeconfig, err = filepath.Abs(o.Kubeconfig); err != nil {
				return err
			}
			if withDemo {
				if o.Demo, err = guestbook(images); err != nil {
					return err
				}
			}
			self, err := os.Executable()
			if err != nil {
				return fmt.Errorf("find own program: %w", err)
			}
			o.ProxyArgv = []string{self, "proxy", "--name", *name}
			l, err := cluster.Up(cmd.Context(), o)
			if err != nil {
				return err
			}
			clusterHints(cmd.OutOrStdout(), l, o)
			return nil
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&o.BinDir, "bin", "", "folder of the programs (default bin/ of this module)")
	flags.StringVar(&o.Kubeconfig, "kubeconfig", "", "file to write; \"down\" removes the default one (default .lab/kubeconfig of this module)")
	flags.BoolVar(&withDemo, "demo", true, "deploy the guestbook, and wait until it answers")
	flags.StringVar(&images, "images", "", "folder of the demo's images (default images/ in the folder of this program)")
	flags.BoolVar(&o.Proxy, "proxy", false, "run a proxy on this machine by which the node pulls images: the lab's only way out")
	flags.StringArrayVar(&o.Config, "config", nil, "a line of the server's configuration, as in 'logLevel: debug'; may be repeated")
	flags.DurationVar(&o.Timeout, "timeout", 5*time.Minute, "how long to wait for each step")
	return cmd
}

// defaultKubeconfig is .lab/kubeconfig of the module, or of the working folder; of other
// labs than the default one, it has the lab's name.
func defaultKubeconfig(name string) string {
	file := "kubeconfig"
	if name != "lab" {
		file = name + ".kubeconfig"
	}
	return filepath.Join(lab.ModuleRoot(), ".lab", file)
}

// guestbook is the demo, whose images were built before: that needs no root.
func guestbook(images string) (cluster.Demo, error) {
	d := cluster.Demo{Manifests: guestbookdemo.Manifests(), Namespace: guestbookdemo.Namespace, NodePort: guestbookdemo.NodePort}
	if images == "" {
		self, err := os.Executable()
		if err != nil {
			return d, fmt.Errorf("find own program: %w", err)
		}
		images = filepath.Join(filepath.Dir(self), "images")
	}
	for _, name := range []string{guestbookdemo.Guestbook, guestbookdemo.Redis} {
		path := filepath.Join(images, name+".tar")
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return d, fmt.Errorf("find the demo's images: no %s: run make build-demo (or leave the demo out: --demo=false)", path)
		} else if err != nil {
			return d, fmt.Errorf("find the demo's images: %w", err)
		}
		d.Archives = append(d.Archives, path)
	}
	return d, nil
}

// clusterHints says what to try next.
func clusterHints(out io.Writer, l *lab.Lab, o cluster.Options) {
	node, log := l.Nodes()[0], l.Nodes()[0].Dir()
	rows := [][2]string{{"export KUBECONFIG=" + o.Kubeconfig, ""}}
	if v := proxyVariable(); v != "" {
		rows = append(rows, [2]string{"export no_proxy=$no_proxy,198.18.0.0/15,10.244.0.0/16,2001:db8::/32,fd00:10:244::/48", v + " is set"})
	}
	rows = append(rows, [2]string{filepath.Join(l.BinDir, "waggle-kube") + " kubectl get pods -A", "or any kubectl"})
	if o.Demo.NodePort != 0 {
		for _, url := range o.Demo.URLs(l) {
			rows = append(rows, [2]string{"curl '" + url + "'", "or in a browser"})
		}
	}
	shell := labCommand("shell", l.Name)
	if !strings.HasPrefix(shell, "make ") {
		shell += " " + node.Name
	}
	rows = append(rows,
		[2]string{shell, "a shell on the node"},
		[2]string{labCommand("image import", l.Name) + " FILE.tar", "bring images of yours"},
		[2]string{asRoot() + "tail " + log + "/private/var/lib/waggle-kube/log/*.log", "what the processes say"},
		[2]string{labCommand("down", l.Name), "remove all of it"})
	fmt.Fprintln(out, "\nTry next:")
	table := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	for _, r := range rows {
		text := "  " + r[0]
		if r[1] != "" {
			text += "\t# " + r[1]
		}
		fmt.Fprintln(table, text)
	}
	_ = table.Flush() // hints that cannot be printed have nobody to tell
}

// labCommand is how to call this program again, as make would or as it was called.
func labCommand(name, lab string) string {
	self := asRoot() + os.Args[0] + " " + name
	switch {
	case lab != "lab":
		return self + " --name " + lab
	case os.Args[0] == "bin/waggle-lab" && (name == "shell" || name == "down"):
		return "make " + name
	}
	return self
}

// asRoot stands before a command where we are root by sudo.
func asRoot() string {
	if os.Getenv("SUDO_UID") != "" {
		return "sudo "
	}
	return ""
}

// proxyVariable is a setting by which programs would ask a proxy for the lab.
func proxyVariable() string {
	for _, name := range []string{"https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"} {
		if os.Getenv(name) != "" {
			return name
		}
	}
	return ""
}

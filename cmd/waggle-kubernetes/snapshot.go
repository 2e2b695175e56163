// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	etcdversion "go.etcd.io/etcd/api/v3/version"

	"github.com/waggle-net/waggle/controlplane/config"
	"github.com/waggle-net/waggle/controlplane/layout"
	"github.com/waggle-net/waggle/controlplane/snapshot"
	"github.com/waggle-net/waggle/internal/version"
)

// snapshotCommand is what waggle-kube has under the same name.
func snapshotCommand() *cobra.Command {
	l := &layout.Layout{}
	cmd := &cobra.Command{
		Use:   "snapshot",
		Short: "Save, list and restore the state of the cluster",
		Long: "Save, list and restore the state of the cluster: what is in etcd, and the keys that\n" +
			"belong to it. Who has a snapshot has the cluster: keep it as you keep the keys.",
		Args: cobra.NoArgs, // an unknown word is an error
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.PersistentFlags().StringVar(&l.Data, "data-dir", layout.DefaultDataDir, "the server's data folder")
	cmd.PersistentFlags().StringVar(&l.Run, "run-dir", layout.DefaultRunDir, "the server's run folder")
	for _, name := range []string{"data-dir", "run-dir"} {
		_ = cmd.PersistentFlags().MarkHidden(name) // it exists
	}
	cmd.AddCommand(snapshotSave(l), snapshotList(l), snapshotRestore(l))
	return cmd
}

func snapshotSave(l *layout.Layout) *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "save [FILE]",
		Short: "Save the state of the running server into a file",
		Long: "Save the state of the running server into a file, for its owner alone to read. Its name\n" +
			"is waggle-kube-NODE-TIME" + snapshot.Suffix + " in the folder of snapshots, unless FILE or --dir says otherwise.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := serverConfig(l)
			if errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("no server was started on data folder %s yet: start one (`waggle-kube server`), or say by WAGGLE_DATA_DIR where it is", l.Data)
			}
			if err != nil {
				return err
			}
			path, err := savePath(c, dir, args)
			if err != nil {
				return err
			}
			s := snapshot.Saver{Layout: *l, Node: c.NodeName}
			m, err := s.Save(cmd.Context(), path)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "saved %s (revision %d, keys: %d)\n", path, m.Revision, m.Keys)
			return err
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "folder for it; made if it is missing (default: snapshots.dir of the configuration)")
	return cmd
}

// savePath is where a snapshot is to be saved. A folder that is not named by FILE is
// made.
func savePath(c *config.Config, dir string, args []string) (string, error) {
	if len(args) > 0 {
		if dir != "" {
			return "", errors.New("both FILE and --dir are given: leave one of them out")
		}
		if info, err := os.Stat(args[0]); err == nil && info.IsDir() {
			return "", fmt.Errorf("%s is a folder: name a file in it, or use --dir %s", args[0], args[0])
		}
		return args[0], nil
	}
	dir = cmp.Or(dir, c.Snapshots.Dir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", fmt.Errorf("make folder of snapshots: %w", err)
	}
	return filepath.Join(dir, snapshot.FileName(c.NodeName, time.Now())), nil
}

// serverConfig is the configuration that the server was started with last.
func serverConfig(l *layout.Layout) (*config.Config, error) {
	return config.Read(l.Generated("config.json"))
}

func snapshotList(l *layout.Layout) *cobra.Command {
	var dir string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List snapshots and check that they can be read",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if dir == "" {
				c, err := serverConfig(l)
				switch {
				case errors.Is(err, fs.ErrNotExist):
					dir = l.SnapshotsDir()
				case err != nil:
					return err
				default:
					dir = c.Snapshots.Dir
				}
			}
			entries, err := snapshot.List(dir)
			if err != nil {
				return err
			}
			if !asJSON {
				return snapshot.Render(cmd.OutOrStdout(), entries)
			}
			enc := json.NewEncoder(cmd.OutOrStdout())
			enc.SetIndent("", "  ")
			return enc.Encode(entries)
		},
	}
	cmd.Flags().StringVar(&dir, "dir", "", "folder of the snapshots (default: snapshots.dir of the configuration)")
	cmd.Flags().BoolVar(&asJSON, "json", false, "as JSON")
	return cmd
}

func snapshotRestore(l *layout.Layout) *cobra.Command {
	var force bool
	cmd := &cobra.Command{
		Use:   "restore FILE",
		Short: "Make the data folder of this machine's server of a snapshot",
		Long: "Make the data folder of this machine's server of a snapshot. The server must be stopped.\n" +
			"It may be another machine than the one that the snapshot was saved on. If it is\n" +
			"interrupted, run it again with the same file.",
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r := snapshot.Restorer{
				Layout:   *l,
				Programs: snapshot.Programs{Kubernetes: version.Kubernetes, Etcd: etcdversion.Version},
				Force:    force,
			}
			restored, err := r.Restore(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return tellRestored(cmd.OutOrStdout(), *l, restored)
		},
	}
	cmd.Flags().BoolVar(&force, "force", false, "move a state that is there into a folder beside it")
	return cmd
}

// tellRestored says what was done, and what is to be done next.
func tellRestored(w io.Writer, l layout.Layout, r *snapshot.Restored) error {
	m := r.Manifest
	text := fmt.Sprintf("restored into %s what node %s had at %s (keys: %d)\n", l.Data, m.Node, m.Time.Format(time.RFC3339), m.Keys)
	if r.Aside != "" {
		text += fmt.Sprintf("what was there is in %s: remove it when you do not need it any more\n", r.Aside)
	}
	text += "\nNext:\n" +
		"  1. Give the server the configuration that it had (/etc/waggle/kube.yaml): it is not part of\n" +
		"     a snapshot. Pod and service ranges must be the same.\n" +
		"  2. Start the server: waggle-kube server, or systemctl start waggle-kube. It makes\n" +
		"     certificates and kubeconfigs for this machine.\n" +
		fmt.Sprintf("  3. If this machine is not called %s: waggle-kube kubectl delete node %s\n", m.Node, m.Node) +
		"  What was written after the snapshot is gone; pods of it that still run are stopped.\n"
	_, err := io.WriteString(w, text)
	return err
}

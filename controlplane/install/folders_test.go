// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waggle-net/waggle/controlplane/layout"
)

// node is a node's folders as a cluster leaves them, and the options to remove
// them without anything of the machine.
func node(t *testing.T) (layout.Layout, UninstallOptions) {
	t.Helper()
	dir := t.TempDir()
	l := layout.Layout{Data: dir + "/data", Run: dir + "/run"}
	mustWrite(t, l.VersionFile(), `{"layout": 1, "waggle": "v1", "kubernetes": "v1.36.4"}`)
	mustWrite(t, l.PKI("cluster-ca.key"), "secret")
	mustWrite(t, l.EtcdDir()+"/member/wal/0.wal", "log")
	mustWrite(t, l.ProcessFile("node"), "{}")
	return l, UninstallOptions{
		Layout:     l,
		Prefix:     dir + "/none",
		CgroupRoot: "/waggle-test-no-such-cgroup",
		Stop:       func(context.Context) error { return nil },
		system:     system{booted: func() bool { return false }},
	}
}

func gone(t *testing.T, paths ...string) {
	t.Helper()
	for _, p := range paths {
		if _, err := os.Lstat(p); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is there, %v", p, err)
		}
	}
}

func TestRemoveNode(t *testing.T) {
	l, o := node(t)
	var order []string
	o.Stop = func(context.Context) error { order = append(order, "stop"); return nil }
	o.Cleanup = func(context.Context) error {
		order = append(order, "cleanup")
		if _, err := os.Stat(l.EtcdDir()); err != nil && len(order) == 2 {
			t.Errorf("the data folder is gone before the datapath: %v", err)
		}
		return nil
	}
	for range 2 { // the second finds nothing
		mustUninstall(t, o)
		gone(t, l.Data, l.Run)
	}
	if diff := cmp.Diff([]string{"stop", "cleanup", "stop", "cleanup"}, order); diff != "" {
		t.Errorf("called (-want +got):\n%s", diff)
	}
}

func TestKeepData(t *testing.T) {
	l, o := node(t)
	o.KeepData = true
	before := tree(t, l.Data)
	out := mustUninstall(t, o)
	if diff := cmp.Diff(before, tree(t, l.Data)); diff != "" {
		t.Errorf("the data folder changed (-before +after):\n%s", diff)
	}
	gone(t, l.Run)
	if !strings.Contains(out, "kept    "+l.Data) {
		t.Errorf("nothing says that it was kept:\n%s", out)
	}
}

// Nothing is removed from under a node that still runs.
func TestNotStopped(t *testing.T) {
	l, o := node(t)
	before := tree(t, filepath.Dir(l.Data))
	for name, spoil := range map[string]func(*UninstallOptions){
		"stop":    func(o *UninstallOptions) { o.Stop = func(context.Context) error { return errors.New("busy") } },
		"cleanup": func(o *UninstallOptions) { o.Cleanup = func(context.Context) error { return errors.New("busy") } },
	} {
		o := o
		spoil(&o)
		o.Out = &bytes.Buffer{}
		if err := Uninstall(t.Context(), o); err == nil || !strings.Contains(err.Error(), "busy") {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(before, tree(t, filepath.Dir(l.Data))); diff != "" {
			t.Errorf("%s: changed (-before +after):\n%s", name, diff)
		}
	}
}

// A symbolic link is removed, and never what it leads to, wherever it is.
func TestSymbolicLinks(t *testing.T) {
	l, o := node(t)
	outside := filepath.Dir(l.Data) + "/outside"
	mustWrite(t, outside+"/precious", "yes")
	for _, link := range []string{l.Data + "/snapshots", l.EtcdDir() + "/member/snap", l.Run + "/containerd"} {
		if err := os.Symlink(outside, link); err != nil {
			t.Fatal(err)
		}
	}
	mustUninstall(t, o)
	gone(t, l.Data, l.Run)
	if diff := cmp.Diff(map[string]string{"/precious": "yes"}, tree(t, outside)); diff != "" {
		t.Errorf("outside changed (-before +after):\n%s", diff)
	}
}

// The data folder itself may be a link to a larger disk.
func TestLinkedDataFolder(t *testing.T) {
	l, o := node(t)
	disk := filepath.Dir(l.Data) + "/disk"
	if err := errors.Join(os.Rename(l.Data, disk), os.Symlink(disk, l.Data)); err != nil {
		t.Fatal(err)
	}
	mustUninstall(t, o)
	gone(t, disk)
	if out := mustUninstall(t, o); !strings.Contains(out, "kept    "+l.Data) {
		t.Errorf("nothing says that the link stays:\n%s", out)
	}
}

// A removal that was cut short leaves a folder that is still known as ours.
func TestRemovalCutShort(t *testing.T) {
	l, o := node(t)
	if err := errors.Join(os.RemoveAll(l.PKIDir()), os.RemoveAll(l.EtcdDir())); err != nil {
		t.Fatal(err)
	}
	mustWrite(t, l.Data+"/something-new", "of a later version")
	mustUninstall(t, o)
	gone(t, l.Data, l.Run)
}

func TestForeignFolders(t *testing.T) {
	for name, tt := range map[string]struct {
		data func(t *testing.T, dir string) string
		want string
	}{
		"root":     {func(*testing.T, string) string { return "/" }, "belongs to the system"},
		"etc":      {func(*testing.T, string) string { return "/etc" }, "belongs to the system"},
		"var lib":  {func(*testing.T, string) string { return "/var/lib" }, "belongs to the system"},
		"shallow":  {func(*testing.T, string) string { return "/srv-of-nobody" }, "belongs to the system"},
		"dots":     {func(*testing.T, string) string { return "/var/lib/../lib" }, "without dots"},
		"relative": {func(*testing.T, string) string { return "data" }, "absolute"},
		"empty":    {func(*testing.T, string) string { return "" }, "absolute"},
		"linked": {func(t *testing.T, dir string) string {
			if err := os.Symlink("/usr", dir+"/link"); err != nil {
				t.Fatal(err)
			}
			return dir + "/link"
		}, "belongs to the system"},
		"other": {func(t *testing.T, dir string) string {
			mustWrite(t, dir+"/other/thesis.tex", "")
			mustWrite(t, dir+"/other/log/x", "")
			return dir + "/other"
		}, "does not look like"},
		"version of another": {func(t *testing.T, dir string) string {
			mustWrite(t, dir+"/other/version.json", `{"version": "1.0"}`)
			mustWrite(t, dir+"/other/package.json", "")
			return dir + "/other"
		}, "does not look like"},
		"file": {func(t *testing.T, dir string) string {
			mustWrite(t, dir+"/a/file", "")
			return dir + "/a/file"
		}, "not a directory"},
	} {
		t.Run(name, func(t *testing.T) {
			_, o := node(t)
			o.Layout.Data = tt.data(t, t.TempDir())
			o.Out = &bytes.Buffer{}
			o.Stop = func(context.Context) error { t.Error("the node was stopped"); return nil }
			if err := Uninstall(t.Context(), o); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestPodNamespace(t *testing.T) {
	const name = "cni-1c2f2a3b-0000-4444-8888-0123456789ab"
	for config, want := range map[string]string{
		`{"linux": {"namespaces": [{"type": "pid"}, {"type": "network", "path": "/var/run/netns/` + name + `"}]}}`: netnsDir + "/" + name,
		`{"linux": {"namespaces": [{"type": "network", "path": "/run/netns/` + name + `"}]}}`:                      netnsDir + "/" + name,
		`{"linux": {"namespaces": [{"type": "network", "path": "/proc/1/ns/net"}]}}`:                               "",
		`{"linux": {"namespaces": [{"type": "network", "path": "/run/netns/blue"}]}}`:                              "",
		`{"linux": {"namespaces": [{"type": "network", "path": "/run/netns/cni-x/../blue"}]}}`:                     "",
		`{"linux": {"namespaces": [{"type": "network"}]}}`:                                                         "",
		`{"linux": {}}`: "",
		`{`:             "",
	} {
		if got := podNamespace([]byte(config)); got != want {
			t.Errorf("%s: %q, want %q", config, got, want)
		}
	}
}

// What is taken for a pod's namespace has a name as containerd gives, whatever
// the record says: it is going to be removed.
func FuzzPodNamespace(f *testing.F) {
	f.Add([]byte(`{"linux": {"namespaces": [{"type": "network", "path": "/run/netns/cni-1c2f2a3b-0000-4444-8888-0123456789ab"}]}}`))
	f.Add([]byte(`{"linux": {"namespaces": [{"type": "network", "path": "/run/netns/../cni-"}]}}`))
	f.Fuzz(func(t *testing.T, config []byte) {
		got := podNamespace(config)
		if got != "" && (filepath.Dir(got) != netnsDir || !cniNamespace.MatchString(filepath.Base(got))) {
			t.Errorf("%s: %q", config, got)
		}
	})
}

// The logs of our pods go, those of others stay.
func TestPodLogs(t *testing.T) {
	l, o := node(t)
	dir := t.TempDir()
	pods, containers := podLogsDir, containerLogsDir
	podLogsDir, containerLogsDir = dir+"/pods", dir+"/containers"
	t.Cleanup(func() { podLogsDir, containerLogsDir = pods, containers })
	mustWrite(t, l.KubeletDir()+"/pods/1111-22/etc-hosts", "")
	mustWrite(t, podLogsDir+"/default_web_1111-22/web/0.log", "")
	mustWrite(t, podLogsDir+"/default_web_9999-22/web/0.log", "")
	mustWrite(t, containerLogsDir+"/README", "")
	for _, uid := range []string{"1111-22", "9999-22"} {
		if err := os.Symlink(podLogsDir+"/default_web_"+uid+"/web/0.log", containerLogsDir+"/web-"+uid+".log"); err != nil {
			t.Fatal(err)
		}
	}
	mustUninstall(t, o)
	want := map[string]string{
		"/pods":                               "folder",
		"/pods/default_web_9999-22":           "folder",
		"/pods/default_web_9999-22/web":       "folder",
		"/pods/default_web_9999-22/web/0.log": "",
		"/containers":                         "folder",
		"/containers/README":                  "",
		"/containers/web-9999-22.log":         "-> " + podLogsDir + "/default_web_9999-22/web/0.log",
	}
	if diff := cmp.Diff(want, tree(t, dir)); diff != "" {
		t.Errorf("logs (-want +got):\n%s", diff)
	}
}

// Everything that may be written is on the page that says so.
func TestDocumented(t *testing.T) {
	const page = "../../docs/kube-files.md"
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		UnitFile, LinkFile, NetworkdFile, NetworkdConfFile, NetworkManagerFile, layout.DefaultConfig,
		DefaultPrefix + "/" + currentName, DefaultPrefix + "/" + manifestName, DefaultBinDir + "/waggle-kube",
		layout.DefaultDataDir, layout.DefaultRunDir, netnsDir, podLogsDir, containerLogsDir,
	}
	for _, w := range append(append(append(want, dataNames...), runNames...), podCgroups...) {
		if !strings.Contains(string(b), "`"+w) {
			t.Errorf("%s does not mention `%s`", page, w)
		}
	}
}

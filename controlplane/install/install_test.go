// SPDX-License-Identifier: Apache-2.0

package install

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/waggle-net/waggle/controlplane/layout"
)

// release is a folder of programs of a version.
func release(t *testing.T, version string) Options {
	t.Helper()
	dir := t.TempDir()
	programs := []string{"waggle-kube", "waggle-kubernetes", "containerd"}
	for _, p := range programs {
		mustWrite(t, filepath.Join(dir, p), p+" "+version)
	}
	return Options{Source: dir, Programs: programs, Version: version, Config: []byte("kind: ServerConfig\n")}
}

func mustWrite(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o755)); err != nil {
		t.Fatal(err)
	}
}

func mustInstall(t *testing.T, o Options) string {
	t.Helper()
	var out bytes.Buffer
	o.Out = &out
	if err := Install(t.Context(), o); err != nil {
		t.Fatalf("%v, after:\n%s", err, out.String())
	}
	return out.String()
}

func mustUninstall(t *testing.T, o UninstallOptions) string {
	t.Helper()
	var out bytes.Buffer
	o.Out = &out
	if err := Uninstall(t.Context(), o); err != nil {
		t.Fatalf("%v, after:\n%s", err, out.String())
	}
	return out.String()
}

// tree lists what is below a folder: files with their text, links with their
// target, and folders. The manifest is only said to be there.
func tree(t *testing.T, root string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		name := strings.TrimPrefix(path, root)
		if err != nil || name == "" {
			return err
		}
		switch {
		case e.IsDir():
			all[name] = "folder"
		case e.Type() == fs.ModeSymlink:
			target, err := os.Readlink(path)
			all[name] = "-> " + target
			return err
		case e.Name() == manifestName:
			all[name] = "manifest"
		default:
			b, err := os.ReadFile(path)
			all[name] = string(b)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// emptySystem is the root folder of a system with nothing of ours.
func emptySystem(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	for _, dir := range []string{"etc/systemd/system/multi-user.target.wants", "usr/local/bin", "usr/local/lib"} {
		if err := os.MkdirAll(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func TestImage(t *testing.T) {
	o := release(t, "v1.2.3")
	o.Root = emptySystem(t)
	before := tree(t, o.Root)
	mustInstall(t, o)
	got := tree(t, o.Root)
	for path, want := range map[string]string{
		"/usr/local/lib/waggle-kube/v1.2.3/waggle-kube":                   "waggle-kube v1.2.3",
		"/usr/local/lib/waggle-kube/v1.2.3/containerd":                    "containerd v1.2.3",
		"/usr/local/lib/waggle-kube/current":                              "-> v1.2.3",
		"/usr/local/bin/waggle-kube":                                      "-> /usr/local/lib/waggle-kube/current/waggle-kube",
		"/etc/systemd/system/multi-user.target.wants/waggle-kube.service": "-> ../waggle-kube.service",
		"/etc/waggle/kube.yaml":                                           "kind: ServerConfig\n",
		"/etc/systemd/network/10-waggle.link":                             linkText,
		"/etc/systemd/system/kubepods.slice.d/10-waggle.conf":             sliceText,
		"/etc/systemd/system/kubepods-.slice.d/10-waggle.conf":            sliceText,
		"/usr/local/lib/waggle-kube/manifest.json":                        "manifest",
	} {
		if got[path] != want {
			t.Errorf("%s is %q, want %q", path, got[path], want)
		}
	}
	for unit, lines := range map[string][]string{
		"waggle-kube.service": {
			"ExecStart=/usr/local/lib/waggle-kube/current/waggle-kube server --config /etc/waggle/kube.yaml",
			"Wants=network-online.target " + ShutdownUnitName,
		},
		"waggle-kube-shutdown.service": {
			"Environment=WAGGLE_CONFIG=/etc/waggle/kube.yaml",
			"ExecStop=/usr/local/lib/waggle-kube/current/waggle-kube stop --all --grace 30s",
			"Before=" + UnitName,
		},
	} {
		text := got["/etc/systemd/system/"+unit]
		for _, want := range lines {
			if !strings.Contains(text, "\n"+want+"\n") {
				t.Errorf("%s lacks %q:\n%s", unit, want, text)
			}
		}
	}
	for path, mode := range map[string]fs.FileMode{
		"etc/waggle/kube.yaml":                         0o600,
		"usr/local/lib/waggle-kube/v1.2.3/waggle-kube": 0o755,
		"etc/systemd/system/waggle-kube.service":       0o644,
	} {
		if fi, err := os.Stat(filepath.Join(o.Root, path)); err != nil || fi.Mode().Perm() != mode {
			t.Errorf("the mode of %s is %v, %v, want %v", path, fi.Mode(), err, mode)
		}
	}

	if out := mustInstall(t, o); out != "" {
		t.Errorf("installing again did:\n%s", out)
	}
	if diff := cmp.Diff(got, tree(t, o.Root)); diff != "" {
		t.Errorf("installing again changed (-before +after):\n%s", diff)
	}

	for range 2 {
		mustUninstall(t, UninstallOptions{Root: o.Root})
		if diff := cmp.Diff(before, tree(t, o.Root)); diff != "" {
			t.Errorf("uninstalling left (-before +after):\n%s", diff)
		}
	}
}

// The page of files has everything that is installed.
func TestDocument(t *testing.T) {
	page, err := os.ReadFile("../../docs/kube-files.md")
	if err != nil {
		t.Fatal(err)
	}
	o := release(t, "VERSION")
	o.setDefaults()
	paths := []string{o.Prefix + "/VERSION/", filepath.Join(o.Prefix, manifestName)}
	for _, f := range o.files() {
		if !strings.HasPrefix(f.path, o.Prefix) { // the programs
			paths = append(paths, f.path)
		}
	}
	for _, l := range o.links() {
		paths = append(paths, l.path)
	}
	for _, path := range paths {
		if !strings.Contains(string(page), "`"+path+"`") {
			t.Errorf("docs/kube-files.md does not name %s", path)
		}
	}
}

// An upgrade changes one link, and old programs stay for those that run them.
func TestUpgrade(t *testing.T) {
	v1, v2 := release(t, "v1"), release(t, "v2")
	root := emptySystem(t)
	before := tree(t, root)
	v1.Root, v2.Root = root, root
	mustInstall(t, v1)
	mustInstall(t, v2)
	got := tree(t, root)
	for path, want := range map[string]string{"current": "-> v2", "v1/containerd": "containerd v1", "v2/containerd": "containerd v2"} {
		if got["/usr/local/lib/waggle-kube/"+path] != want {
			t.Errorf("%s is %q, want %q", path, got["/usr/local/lib/waggle-kube/"+path], want)
		}
	}
	mustInstall(t, v1) // and back
	if got := tree(t, root)["/usr/local/lib/waggle-kube/current"]; got != "-> v1" {
		t.Errorf("after the downgrade, current is %s", got)
	}
	mustUninstall(t, UninstallOptions{Root: root})
	if diff := cmp.Diff(before, tree(t, root)); diff != "" {
		t.Errorf("uninstalling left (-before +after):\n%s", diff)
	}
}

// The programs may be those that are installed.
func TestInstallInPlace(t *testing.T) {
	o := release(t, "v1")
	o.Root = emptySystem(t)
	mustInstall(t, o)
	before := tree(t, o.Root)
	o.Source = filepath.Join(o.Root, DefaultPrefix, currentName)
	if out := mustInstall(t, o); out != "" {
		t.Errorf("installing in place did:\n%s", out)
	}
	if diff := cmp.Diff(before, tree(t, o.Root)); diff != "" {
		t.Errorf("installing in place changed (-before +after):\n%s", diff)
	}
}

// What an administrator wrote or changed stays through all of it.
func TestChangedByAdministrator(t *testing.T) {
	o := release(t, "v1")
	o.Root = emptySystem(t)
	theirs := map[string]string{
		"/etc/NetworkManager/conf.d/10-waggle.conf": "# by our configuration management\n",
		"/usr/local/bin/waggle-kube":                "a wrapper",
	}
	for path, text := range theirs {
		mustWrite(t, o.Root+path, text)
	}
	mustInstall(t, o)
	theirs["/etc/waggle/kube.yaml"] = "nodeName: rack7\n"
	theirs["/etc/systemd/network/10-waggle.network"] = "# changed\n"
	for path, text := range theirs {
		mustWrite(t, o.Root+path, text)
	}
	o.Config = []byte("kind: ServerConfig # newer\n")
	out := mustInstall(t, o)
	out += mustUninstall(t, UninstallOptions{Root: o.Root})
	got := tree(t, o.Root)
	for path, text := range theirs {
		if got[path] != text {
			t.Errorf("%s is %q, want %q", path, got[path], text)
		}
		if n := strings.Count(out, "kept    "+path+": "); n < 1 {
			t.Errorf("nothing says that %s was kept:\n%s", path, out)
		}
	}
	if _, found := got[UnitFile]; found {
		t.Error("the unit was kept")
	}
}

// A default configuration that nobody changed is replaced by a newer one.
func TestNewerDefault(t *testing.T) {
	o := release(t, "v1")
	o.Root = emptySystem(t)
	mustInstall(t, o)
	o.Config = []byte("kind: ServerConfig # newer\n")
	mustInstall(t, o)
	if got := tree(t, o.Root)[layout.DefaultConfig]; got != string(o.Config) {
		t.Errorf("the configuration is %q", got)
	}
	out := mustUninstall(t, UninstallOptions{Root: o.Root, KeepData: true})
	if got := tree(t, o.Root)[layout.DefaultConfig]; got != string(o.Config) {
		t.Errorf("with KeepData, the configuration is %q:\n%s", got, out)
	}
}

// A running system is told, in this order.
func TestSystemd(t *testing.T) {
	root := emptySystem(t)
	v1, v2 := release(t, "v1"), release(t, "v2")
	var ran []string
	s := system{booted: func() bool { return true }, command: func(_ context.Context, name string, args ...string) error {
		ran = append(ran, strings.Join(append([]string{name}, args...), " "))
		if slices.Contains(args, "NetworkManager.service") {
			return errors.New("inactive")
		}
		return nil
	}}
	for _, tt := range []struct {
		o     Options
		start bool
		want  string
	}{
		{v1, true, "restart"},
		{v1, true, "start"},
		{v2, false, ""},
		{v2, true, "restart"}, // as nobody did yet
		{v2, true, "start"},
	} {
		ran = nil
		o := tt.o
		o.Start = tt.start
		if err := onRunningSystem(t, root, o, s); err != nil {
			t.Fatal(err)
		}
		want := []string{"systemctl is-active --quiet systemd-udevd.service", "udevadm control --reload",
			"systemctl is-active --quiet systemd-networkd.service", "networkctl reload",
			"systemctl is-active --quiet NetworkManager.service",
			"systemctl daemon-reload", "systemctl enable waggle-kube.service"}
		if tt.want != "" {
			want = append(want, "systemctl "+tt.want+" waggle-kube.service")
		}
		if diff := cmp.Diff(want, ran); diff != "" {
			t.Errorf("%s, start %v ran (-want +got):\n%s", tt.o.Version, tt.start, diff)
		}
	}
}

// onRunningSystem is Install with the files below root, and the commands of a
// system that runs.
func onRunningSystem(t *testing.T, root string, o Options, s system) error {
	t.Helper()
	var out bytes.Buffer
	o.Out, o.system = &out, s
	o.setDefaults()
	d := &disk{root: root, out: o.Out, step: o.step}
	if err := os.MkdirAll(d.path(o.Prefix), 0o755); err != nil {
		return err
	}
	m, err := d.readManifest(o.Prefix)
	if err != nil {
		return err
	}
	if err := o.writeAll(d, m); err != nil {
		return err
	}
	return o.enable(t.Context(), d, m)
}

func TestBadInput(t *testing.T) {
	good := func() Options {
		o := release(t, "v1")
		o.Root = emptySystem(t)
		return o
	}
	for name, tt := range map[string]struct {
		spoil func(*Options)
		want  string
	}{
		"no systemd":   {func(o *Options) { o.Root = ""; o.booted = func() bool { return false } }, "waggle-kube server --config /etc/waggle/kube.yaml\" as root"},
		"no program":   {func(o *Options) { o.Programs = append(o.Programs, "runc") }, "unpack the whole release"},
		"folder":       {func(o *Options) { mustWrite(t, o.Source+"/dir/x", ""); o.Programs = append(o.Programs, "dir") }, "is not a program"},
		"none":         {func(o *Options) { o.Programs = nil }, "no programs"},
		"no version":   {func(o *Options) { o.Version = "" }, "cannot be the name of a folder"},
		"odd version":  {func(o *Options) { o.Version = "../v1" }, "cannot be the name of a folder"},
		"current":      {func(o *Options) { o.Version = currentName }, "cannot be the name of a folder"},
		"odd prefix":   {func(o *Options) { o.Prefix = "/opt/my programs" }, "use an absolute one"},
		"relative":     {func(o *Options) { o.BinDir = "bin" }, "use an absolute one"},
		"dots":         {func(o *Options) { o.ConfigFile = "/etc/../x" }, "use an absolute one"},
		"root prefix":  {func(o *Options) { o.Prefix = "/" }, "use an absolute one"},
		"no root":      {func(o *Options) { o.Root += "/none" }, "is not a folder"},
		"bad manifest": {func(o *Options) { mustWrite(t, o.Root+DefaultPrefix+"/manifest.json", "{") }, "by hand"},
		"newer":        {func(o *Options) { mustWrite(t, o.Root+DefaultPrefix+"/manifest.json", `{"version": 2}`) }, "newer waggle-kube"},
	} {
		t.Run(name, func(t *testing.T) {
			o := good()
			root := o.Root
			tt.spoil(&o)
			before := tree(t, root)
			var out bytes.Buffer
			o.Out = &out
			if err := Install(t.Context(), o); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
			if diff := cmp.Diff(before, tree(t, root)); diff != "" {
				t.Errorf("changed (-before +after):\n%s", diff)
			}
		})
	}
}

// Two at a time would record half of each other.
func TestLocked(t *testing.T) {
	o := release(t, "v1")
	o.Root = emptySystem(t)
	mustInstall(t, o)
	d := &disk{root: o.Root}
	unlock, err := d.lock(DefaultPrefix)
	if err != nil {
		t.Fatal(err)
	}
	defer unlock()
	var out bytes.Buffer
	o.Out = &out
	for name, err := range map[string]error{
		"install":   Install(t.Context(), o),
		"uninstall": Uninstall(t.Context(), UninstallOptions{Root: o.Root, Out: &out}),
	} {
		if err == nil || !strings.Contains(err.Error(), "wait until the other") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

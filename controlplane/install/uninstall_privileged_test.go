// SPDX-License-Identifier: Apache-2.0

//go:build privileged

package install

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

// privateMounts runs a test on a thread with mounts of its own, so that what it
// mounts can neither leave it nor stay.
func privateMounts(t *testing.T, test func(t *testing.T)) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() { // the main thread does not end
			privateMounts(t, test)
			runtime.UnlockOSThread()
			return
		}
		withOwnMounts(t, test)
	}()
	<-done
}

func withOwnMounts(t *testing.T, test func(t *testing.T)) {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		t.Error(err)
		return
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		t.Error(err)
		return
	}
	test(t)
}

func mount(t *testing.T, source, target, fsType string, flags uintptr, data string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(target, 0o755), unix.Mount(source, target, fsType, flags, data)); err != nil {
		t.Fatalf("mount %s: %v", target, err)
	}
}

func mountsIn(t *testing.T, dir string) []string {
	t.Helper()
	points, err := mountPoints(func(p string) bool { return p == dir || below(p, dir) })
	if err != nil {
		t.Fatal(err)
	}
	return points
}

// What kubelet and containerd mount goes, however deep and whoever uses it, and
// what is mounted from elsewhere keeps its contents.
func TestUnmount(t *testing.T) {
	privateMounts(t, func(t *testing.T) {
		l, o := node(t)
		outside := t.TempDir()
		mustWrite(t, outside+"/precious", "yes")
		volumes := l.KubeletDir() + "/pods/1111-22/volumes"
		mount(t, "tmpfs", volumes+"/secret", "tmpfs", 0, "")
		mount(t, "tmpfs", volumes+"/secret", "tmpfs", 0, "") // on top of the other
		mount(t, "tmpfs", volumes+"/secret/deep", "tmpfs", 0, "")
		mount(t, outside, volumes+"/host path", "", unix.MS_BIND, "")
		rootfs := l.ContainerdState() + "/io.containerd.runtime.v2.task/k8s.io/abc/rootfs"
		for _, d := range []string{"lower", "upper", "work"} {
			mustWrite(t, l.ContainerdDir()+"/"+d+"/file", d)
		}
		layers := l.ContainerdDir()
		if err := os.RemoveAll(layers + "/work/file"); err != nil {
			t.Fatal(err)
		}
		mount(t, "overlay", rootfs, "overlay", 0, "lowerdir="+layers+"/lower,upperdir="+layers+"/upper,workdir="+layers+"/work")
		busy, err := os.Open(rootfs + "/file")
		if err != nil {
			t.Fatal(err)
		}
		defer busy.Close()
		mustWrite(t, l.Run+"/containerd/namespace", "")
		if err := unix.Mount("/proc/thread-self/ns/uts", l.Run+"/containerd/namespace", "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}

		out := mustUninstall(t, o)
		gone(t, l.Data, l.Run)
		if left := mountsIn(t, filepath.Dir(l.Data)); len(left) > 0 {
			t.Errorf("still mounted: %v", left)
		}
		if got := tree(t, outside)["/precious"]; got != "yes" {
			t.Errorf("what was mounted from elsewhere is %q", got)
		}
		if want := "detached " + rootfs + ": it was busy"; !strings.Contains(out, want) {
			t.Errorf("want %q in:\n%s", want, out)
		}
	})
}

// A disk that an administrator mounted is neither unmounted nor emptied, unless it
// is the data folder itself: then its contents are ours.
func TestForeignMounts(t *testing.T) {
	privateMounts(t, func(t *testing.T) {
		l, o := node(t)
		mount(t, "tmpfs", l.SnapshotsDir(), "tmpfs", 0, "")
		mustWrite(t, l.SnapshotsDir()+"/monday", "state")
		mustWrite(t, l.EtcdDir()+"/member/backup", "")
		if err := unix.Mount(l.SnapshotsDir()+"/monday", l.EtcdDir()+"/member/backup", "", unix.MS_BIND, ""); err != nil {
			t.Fatal(err)
		}
		o.Out = &bytes.Buffer{}
		err := Uninstall(t.Context(), o)
		for _, path := range []string{l.SnapshotsDir(), l.EtcdDir() + "/member/backup"} {
			if want := "remove " + path + ": it is a mount that is not ours"; err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("error %v, want %q", err, want)
			}
		}
		if got := tree(t, l.SnapshotsDir())["/monday"]; got != "state" {
			t.Errorf("the snapshot is %q", got)
		}
		gone(t, l.PKIDir())
		if _, err := os.Stat(l.VersionFile()); err != nil {
			t.Errorf("the folder is not known as ours any more: %v", err)
		}
		for _, path := range []string{l.EtcdDir() + "/member/backup", l.SnapshotsDir()} {
			if err := unix.Unmount(path, 0); err != nil {
				t.Fatal(err)
			}
		}
		mustUninstall(t, o)
		gone(t, l.Data, l.Run)
	})
}

func TestDataFolderIsMount(t *testing.T) {
	privateMounts(t, func(t *testing.T) {
		l, o := node(t)
		mount(t, "tmpfs", l.Data, "tmpfs", 0, "")
		mustWrite(t, l.VersionFile(), `{"layout": 1}`)
		mustWrite(t, l.PKI("ca.key"), "secret")
		out := mustUninstall(t, o)
		if got := tree(t, l.Data); len(got) > 0 {
			t.Errorf("it holds %v", got)
		}
		if !strings.Contains(out, "emptied "+l.Data) {
			t.Errorf("nothing says that it stays:\n%s", out)
		}
		mustUninstall(t, o)
	})
}

// The network namespaces of our pods go, those of others stay.
func TestNamespaces(t *testing.T) {
	privateMounts(t, func(t *testing.T) {
		l, o := node(t)
		before := netnsDir
		netnsDir = t.TempDir()
		t.Cleanup(func() { netnsDir = before })
		const ours, theirs, released = "cni-11111111-2222-3333-4444-555555555555", "cni-99999999-2222-3333-4444-555555555555", "cni-77777777-2222-3333-4444-555555555555"
		for _, name := range []string{ours, theirs} {
			mustWrite(t, netnsDir+"/"+name, "")
			if err := unix.Mount("/proc/thread-self/ns/net", netnsDir+"/"+name, "", unix.MS_BIND, ""); err != nil {
				t.Fatal(err)
			}
		}
		for _, name := range []string{ours, released} {
			mustWrite(t, l.ContainerdState()+"/io.containerd.runtime.v2.task/k8s.io/"+name+"/config.json",
				`{"linux": {"namespaces": [{"type": "network", "path": "/var/run/netns/`+name+`"}]}}`)
		}
		mustUninstall(t, o)
		gone(t, netnsDir+"/"+ours)
		if left := mountsIn(t, netnsDir); len(left) != 1 || filepath.Base(left[0]) != theirs {
			t.Errorf("left are %v, want %s", left, theirs)
		}
	})
}

// Pods' cgroups go in every hierarchy; one with a process in it is named.
func TestCgroups(t *testing.T) {
	root := "/waggle-test-" + strings.ToLower(t.Name())
	var hierarchies []string
	infos, err := mountinfo.GetMounts(func(m *mountinfo.Info) (skip, stop bool) {
		return m.FSType != "cgroup" && m.FSType != "cgroup2", false
	})
	if err != nil || len(infos) == 0 {
		t.Fatalf("mounts of cgroups: %v, %v", infos, err)
	}
	for _, m := range infos {
		hierarchies = append(hierarchies, m.Mountpoint)
		dir := m.Mountpoint + root
		if err := errors.Join(os.MkdirAll(dir+"/kubepods/burstable/pod1/c1", 0o755), os.MkdirAll(dir+"/other", 0o755)); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			for _, d := range []string{"/other", "/kubepods/burstable/pod1/c1", "/kubepods/burstable/pod1", "/kubepods/burstable", "/kubepods", ""} {
				_ = unix.Rmdir(dir + d) // most are gone
			}
		})
	}

	// cat waits for its input, and so until we say.
	cat := exec.Command("cat")
	in, err := cat.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cat.Start(); err != nil {
		t.Fatal(err)
	}
	procs := hierarchies[len(hierarchies)-1] + root + "/kubepods/burstable/pod1/c1/cgroup.procs"
	pid := []byte(strconv.Itoa(cat.Process.Pid))
	if err := os.WriteFile(procs, pid, 0); err != nil {
		t.Fatal(err)
	}
	patience := cgroupPatience
	cgroupPatience = 0 // it will not end by itself
	l, o := node(t)
	o.CgroupRoot, o.Out = root, &bytes.Buffer{}
	if err := Uninstall(t.Context(), o); err == nil || !strings.Contains(err.Error(), "the processes "+string(pid)+" run in it") {
		t.Errorf("with a process: %v", err)
	}
	if _, err := os.Stat(l.EtcdDir()); err != nil {
		t.Errorf("the data folder was removed while a pod runs: %v", err)
	}
	cgroupPatience = patience
	if err := errors.Join(in.Close(), cat.Wait()); err != nil {
		t.Fatal(err)
	}
	mustUninstall(t, o)
	for _, h := range hierarchies {
		gone(t, h+root+"/kubepods")
		if _, err := os.Stat(h + root + "/other"); err != nil {
			t.Error(err)
		}
	}
	gone(t, l.Data)
}

// systemd takes the units and the drop-ins as they are meant.
func TestUnitsAreValid(t *testing.T) {
	o := release(t, "v1")
	o.Root = emptySystem(t)
	mustInstall(t, o)
	dir := t.TempDir()
	installed := filepath.Join(DefaultPrefix, currentName, "waggle-kube")
	args := []string{"verify", "--man=no"}
	for _, file := range []string{UnitFile, ShutdownUnitFile} {
		text, err := os.ReadFile(o.Root + file)
		if err != nil {
			t.Fatal(err)
		}
		unit := filepath.Join(dir, filepath.Base(file))
		there := strings.ReplaceAll(string(text), installed, o.Root+installed)
		if err := os.WriteFile(unit, []byte(there), 0o644); err != nil {
			t.Fatal(err)
		}
		args = append(args, unit)
	}
	// A slice of its own, with the drop-in of all slices of pods.
	slice := filepath.Join(dir, "kubepods-test.slice")
	mustWrite(t, slice, "[Slice]\n")
	dropIn := filepath.Join(dir, "kubepods-.slice.d/10-waggle.conf")
	mustWrite(t, dropIn, sliceText)
	for _, file := range []string{slice, dropIn} { // systemd minds what can be executed
		if err := os.Chmod(file, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command("systemd-analyze", append(args, slice)...).CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		t.Log("no systemd-analyze on this machine: the units were not verified")
		return
	}
	if err != nil || len(bytes.TrimSpace(out)) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// SPDX-License-Identifier: Apache-2.0

package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/waggle-net/waggle/controlplane/layout"
)

// maxDataDir is the longest data folder in bytes: a socket's path may have 107
// (unix(7)), and that of kubelet's plugins need the rest.
const maxDataDir = 107 - len("/kubelet/pod-resources/kubelet.sock")

// system are folders that hold more than ours, and so can not be removed with us.
var system = []string{
	"/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/media", "/mnt", "/opt", "/proc",
	"/root", "/run", "/sbin", "/srv", "/sys", "/tmp", "/usr", "/var", "/var/lib", "/var/log", "/var/run",
}

func (c *Config) validatePaths() field.ErrorList {
	data, run := field.NewPath("dataDir"), field.NewPath("runDir")
	errs := ownFolder(data, c.DataDir, maxDataDir)
	errs = append(errs, ownFolder(run, c.RunDir, layout.MaxRunDir)...)
	switch {
	case len(errs) > 0:
	case inside(c.RunDir, c.DataDir), inside(c.DataDir, c.RunDir):
		errs = append(errs, field.Invalid(run, c.RunDir,
			fmt.Sprintf("must not hold dataDir %s, nor be in it: use another folder, on a tmpfs", c.DataDir)))
	default:
		errs = append(errs, c.validateAmongOurs()...)
	}
	for _, f := range []struct {
		path  *field.Path
		value string
	}{
		{field.NewPath("containerRuntime", "cniBinDir"), c.ContainerRuntime.CNIBinDir},
		{field.NewPath("containerRuntime", "cniConfDir"), c.ContainerRuntime.CNIConfDir},
		{field.NewPath("kubelet", "cgroupRoot"), c.Kubelet.CgroupRoot},
		{field.NewPath("audit", "path"), c.Audit.Path},
		{field.NewPath("snapshots", "dir"), c.Snapshots.Dir},
	} {
		errs = append(errs, absolute(f.path, f.value)...)
	}
	return errs
}

// ownFolder checks a folder that is ours alone.
func ownFolder(p *field.Path, dir string, longest int) field.ErrorList {
	if errs := absolute(p, dir); len(errs) > 0 {
		return errs
	}
	switch {
	case slices.Contains(system, dir):
		return field.ErrorList{field.Invalid(p, dir, "holds more than waggle-kube's files, which are removed with it: use a folder of its own, as in "+
			filepath.Join(dir, "waggle-kube"))}
	case strings.ContainsAny(dir, ",:\\\"' \t\n"):
		return field.ErrorList{field.Invalid(p, dir, "mount options cannot hold commas, colons, quotes, backslashes or blanks: use a path without them")}
	case len(dir) > longest:
		return field.ErrorList{field.Invalid(p, dir, fmt.Sprintf("the paths of sockets in it would be too long: use %d bytes or less", longest))}
	}
	return nil
}

func absolute(p *field.Path, path string) field.ErrorList {
	switch {
	case path == "":
		return field.ErrorList{field.Required(p, "use an absolute path")}
	case !filepath.IsAbs(path):
		return field.ErrorList{field.Invalid(p, path, "use an absolute path")}
	case path != filepath.Clean(path):
		return field.ErrorList{field.Invalid(p, path, "use "+filepath.Clean(path))}
	}
	return nil
}

// validateAmongOurs checks what may be in our folders, but not just anywhere.
func (c *Config) validateAmongOurs() field.ErrorList {
	var errs field.ErrorList
	for _, f := range []struct {
		path                *field.Path
		value, folder, home string
	}{
		{field.NewPath("audit", "path"), c.Audit.Path, filepath.Dir(c.Audit.Path), c.Layout().LogDir()},
		{field.NewPath("snapshots", "dir"), c.Snapshots.Dir, c.Snapshots.Dir, c.Layout().SnapshotsDir()},
	} {
		switch {
		case inside(f.folder, c.RunDir):
			errs = append(errs, field.Invalid(f.path, f.value, "runDir does not survive a reboot: use a folder on a disk"))
		case inside(f.folder, c.DataDir) && !inside(f.folder, f.home):
			errs = append(errs, field.Invalid(f.path, f.value, fmt.Sprintf("waggle-kube's own files are there: inside dataDir use %s", f.home)))
		}
	}
	return errs
}

// inside says whether the path is the folder, or in it.
func inside(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && filepath.IsLocal(rel)
}

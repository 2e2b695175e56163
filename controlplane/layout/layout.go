// SPDX-License-Identifier: Apache-2.0

// Package layout names the files of a waggle-kube node.
//
// What must survive a reboot is below the data folder, what must not (sockets,
// process ids, containerd's state) below the run folder, which belongs on a tmpfs.
// The package only joins paths: it neither makes nor reads anything.
package layout

import "path/filepath"

// Version of the layout below the data folder. A program refuses a folder of a
// newer version, and raises that of an older one after it has converted it.
const Version = 1

// The folders that a node uses unless it is told otherwise.
const (
	DefaultDataDir = "/var/lib/waggle-kube"
	DefaultRunDir  = "/run/waggle-kube"
	DefaultConfig  = "/etc/waggle/kube.yaml"
)

// MaxRunDir is the longest run folder in bytes: a socket's path may have 107
// (unix(7)), and the longest below the run folder needs the rest.
const MaxRunDir = 107 - len("/containerd/containerd.sock.ttrpc")

// Layout is where one node keeps its files.
type Layout struct {
	Data string // survives a reboot
	Run  string // does not
}

// VersionFile holds the version of the layout and of the programs that wrote it.
func (l Layout) VersionFile() string { return filepath.Join(l.Data, "version.json") }

// LockFile is locked (flock) by the one supervisor of the data folder.
func (l Layout) LockFile() string { return filepath.Join(l.Data, "lock") }

// PKIDir holds keys and certificates (package pki names them).
func (l Layout) PKIDir() string { return filepath.Join(l.Data, "pki") }

// PKI is a file of PKIDir.
func (l Layout) PKI(name string) string { return filepath.Join(l.PKIDir(), name) }

// KubeconfigDir holds a kubeconfig for each identity.
func (l Layout) KubeconfigDir() string { return filepath.Join(l.Data, "kubeconfig") }

// Kubeconfig is the kubeconfig of an identity: admin, controller-manager,
// scheduler, kubelet, waggled.
func (l Layout) Kubeconfig(identity string) string {
	return filepath.Join(l.KubeconfigDir(), identity+".yaml")
}

// EncryptionConfig is the apiserver's EncryptionConfiguration, with the keys that
// secrets are encrypted with at rest.
func (l Layout) EncryptionConfig() string { return filepath.Join(l.Data, "encryption.yaml") }

// EtcdDir is etcd's data folder.
func (l Layout) EtcdDir() string { return filepath.Join(l.Data, "etcd") }

// GeneratedDir holds the configuration that is derived from the node's own at each
// start, for the components that read theirs from a file.
func (l Layout) GeneratedDir() string { return filepath.Join(l.Data, "generated") }

// Generated is a file of GeneratedDir.
func (l Layout) Generated(name string) string { return filepath.Join(l.GeneratedDir(), name) }

// WaggledDir is what waggled remembers of the cluster, for a start without it.
func (l Layout) WaggledDir() string { return filepath.Join(l.Data, "waggled") }

// DaemonConfig is the generated configuration of waggled.
func (l Layout) DaemonConfig() string { return l.Generated("waggled.yaml") }

// KubeletDir is the kubelet's root folder: pods' volumes, plugins' sockets.
func (l Layout) KubeletDir() string { return filepath.Join(l.Data, "kubelet") }

// ContainerdDir is containerd's root folder: images and snapshots.
func (l Layout) ContainerdDir() string { return filepath.Join(l.Data, "containerd") }

// ImagesDir holds archives of images that are imported at each start.
func (l Layout) ImagesDir() string { return filepath.Join(l.Data, "images") }

// SnapshotsDir holds the snapshots of the cluster's state.
func (l Layout) SnapshotsDir() string { return filepath.Join(l.Data, "snapshots") }

// LogDir holds a log for each process, and the audit log.
func (l Layout) LogDir() string { return filepath.Join(l.Data, "log") }

// Log is the log of a process.
func (l Layout) Log(process string) string { return filepath.Join(l.LogDir(), process+".log") }

// ContainerdState is containerd's state folder.
func (l Layout) ContainerdState() string { return filepath.Join(l.Run, "containerd") }

// ContainerdSocket is where containerd listens for gRPC: CRI and its own services.
func (l Layout) ContainerdSocket() string {
	return filepath.Join(l.ContainerdState(), "containerd.sock")
}

// Socket is where a process of ours answers about itself: supervisor,
// control-plane, node.
func (l Layout) Socket(process string) string { return filepath.Join(l.Run, process+".sock") }

// ProcessFile records a supervised process, for the next supervisor to find it.
func (l Layout) ProcessFile(process string) string {
	return filepath.Join(l.Run, "process", process+".json")
}

// SPDX-License-Identifier: Apache-2.0

// Package install puts waggle-kube on a machine as a service, and takes a node
// off it again.
//
// What is written is recorded with its hash before it is written, so that an
// installation that was cut short is finished by the next one, and removed by
// Uninstall. What an administrator changed since is theirs: it stays.
package install

// What is written outside of the prefix.
const (
	UnitName           = "waggle-kube.service"
	UnitFile           = "/etc/systemd/system/" + UnitName
	ShutdownUnitName   = "waggle-kube-shutdown.service"
	ShutdownUnitFile   = "/etc/systemd/system/" + ShutdownUnitName
	PodSliceFile       = "/etc/systemd/system/kubepods.slice.d/10-waggle.conf"
	PodSlicesFile      = "/etc/systemd/system/kubepods-.slice.d/10-waggle.conf"
	LinkFile           = "/etc/systemd/network/10-waggle.link"
	NetworkdFile       = "/etc/systemd/network/10-waggle.network"
	NetworkdConfFile   = "/etc/systemd/networkd.conf.d/10-waggle.conf"
	NetworkManagerFile = "/etc/NetworkManager/conf.d/10-waggle.conf"
)

// The folders of what is installed, unless Options say otherwise.
const (
	DefaultPrefix = "/usr/local/lib/waggle-kube"
	DefaultBinDir = "/usr/local/bin"
)

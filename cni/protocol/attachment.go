// SPDX-License-Identifier: Apache-2.0

package protocol

import (
	"crypto/sha256"
	"encoding/hex"
)

// Key is the attachment as one string. A container ID has no slash, so two
// attachments never share a key.
func (a Attachment) Key() string { return a.ContainerID + "/" + a.IfName }

// Hash is the attachment as a name that any file system takes.
func (a Attachment) Hash() string {
	sum := sha256.Sum256([]byte(a.Key()))
	return hex.EncodeToString(sum[:])
}

// HostIfName is the name of the device's host side. It follows from the
// attachment alone, so that the plugin can find the device while the daemon is
// down, and it fits the kernel's 15 characters.
func (a Attachment) HostIfName() string { return "wag" + a.Hash()[:12] }

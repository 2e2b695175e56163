// SPDX-License-Identifier: Apache-2.0

package protocol

// Codes of our own in a CNI error, beside those of the specification (1 to 11,
// 50 and 51), which leaves everything from 100 up to plugins.
const (
	// CodeExhausted: every pod address or endpoint number of the node is taken.
	CodeExhausted uint = 100
	// CodeExists: ADD for an attachment that exists.
	CodeExists uint = 101
	// CodeMismatch: CHECK found something else than what ADD built.
	CodeMismatch uint = 102
	// CodeDatapath: the kernel side could not be built or taken away.
	CodeDatapath uint = 103
	// CodeDenied: the peer on the socket is not root.
	CodeDenied uint = 104
	// CodeProtocol: plugin and daemon are too far apart to understand each other.
	CodeProtocol uint = 105
	// CodeState: the daemon could not read or write its own records.
	CodeState uint = 106
)

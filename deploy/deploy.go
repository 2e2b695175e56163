// SPDX-License-Identifier: Apache-2.0

// Package deploy holds the files that installations start from.
package deploy

import _ "embed"

// ServerConfig is the configuration of a server with nothing set, every key explained.
//
//go:embed waggle-kube.yaml
var ServerConfig []byte

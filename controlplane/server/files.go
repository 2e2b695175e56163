// SPDX-License-Identifier: Apache-2.0

package server

import (
	_ "embed"
	"fmt"
	"os"

	"github.com/waggle-net/waggle/controlplane/layout"
)

// Files that the API server reads, below the folder of generated files.
const (
	authenticationFile = "authentication.yaml"
	auditPolicyFile    = "audit-policy.yaml"
)

//go:embed authentication.yaml
var authentication []byte

//go:embed audit-policy.yaml
var auditPolicy []byte

// writeFiles writes what the API server reads from files and nobody needs to choose.
func writeFiles(l layout.Layout) error {
	if err := os.MkdirAll(l.GeneratedDir(), 0o700); err != nil {
		return fmt.Errorf("write apiserver's configuration: %w", err)
	}
	for name, data := range map[string][]byte{authenticationFile: authentication, auditPolicyFile: auditPolicy} {
		if err := os.WriteFile(l.Generated(name), data, 0o600); err != nil {
			return fmt.Errorf("write apiserver's configuration: %w", err)
		}
	}
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/waggle-net/waggle/test/lab"
)

// Import brings archives of images into all nodes of a lab.
func Import(ctx context.Context, l *lab.Lab, archives ...string) (string, error) {
	paths := make([]string, len(archives))
	for i, a := range archives {
		path, err := filepath.Abs(a)
		if err == nil {
			_, err = os.Stat(path)
		}
		if err != nil {
			return "", fmt.Errorf("import images: %w", err)
		}
		paths[i] = path
	}
	var said strings.Builder
	var errs []error
	for _, node := range l.Nodes() {
		out, err := node.KubeCommand(ctx, append([]string{"image", "import"}, paths...)...).CombinedOutput()
		if err != nil {
			errs = append(errs, fmt.Errorf("import images into %s: %w\n%s", node.Name, err, strings.TrimSpace(string(out))))
			continue
		}
		for line := range strings.Lines(string(out)) {
			fmt.Fprintf(&said, "%s: %s", node.Name, line)
		}
	}
	return said.String(), errors.Join(errs...)
}

// importImages imports the demo's archives, but those that are what they were when
// they were imported last.
func (c *cluster) importImages(ctx context.Context) error {
	record := filepath.Join(c.node.Dir(), "images.json")
	known := map[string]string{}
	if text, err := os.ReadFile(record); err == nil {
		_ = json.Unmarshal(text, &known) // damaged: all are imported again
	}
	var changed []string
	for _, path := range c.Demo.Archives {
		info, err := os.Stat(path)
		if err != nil {
			return fmt.Errorf("import images: %w", err)
		}
		sum := fmt.Sprintf("%d bytes of %v", info.Size(), info.ModTime())
		if known[path] != sum {
			changed = append(changed, path)
			if known[path] != "" {
				c.rebuilt = append(c.rebuilt, strings.TrimSuffix(filepath.Base(path), filepath.Ext(path)))
			}
			known[path] = sum
		}
	}
	if len(changed) == 0 {
		return nil
	}
	if _, err := Import(ctx, c.lab, changed...); err != nil {
		return err
	}
	text, err := json.Marshal(known)
	if err == nil {
		err = os.WriteFile(record, text, 0o644)
	}
	if err != nil {
		return fmt.Errorf("record images: %w", err)
	}
	slices.Sort(changed)
	c.say("imported %s", strings.Join(changed, ", "))
	return nil
}

// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/proto"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// inspection is all that containerd knows of a thing: the fields that the interface
// has, and what the runtime adds.
type inspection struct {
	status proto.Message
	info   map[string]string
}

func (t *tool) inspectCommand() *cobra.Command {
	return t.inspecting("inspect CONTAINER...", "Print all about containers, as JSON",
		func(ctx context.Context, c *client, arg string) (inspection, error) {
			id, err := c.container(ctx, arg)
			if err != nil {
				return inspection{}, err
			}
			resp, err := c.runtime.ContainerStatus(ctx, id, true)
			if err != nil {
				return inspection{}, fmt.Errorf("inspect container %s: %w", id, plain(err))
			}
			return inspection{resp.Status, resp.Info}, nil
		})
}

func (t *tool) inspectPodCommand() *cobra.Command {
	return t.inspecting("inspectp POD...", "Print all about pods, as JSON",
		func(ctx context.Context, c *client, arg string) (inspection, error) {
			id, err := c.pod(ctx, arg)
			if err != nil {
				return inspection{}, err
			}
			resp, err := c.runtime.PodSandboxStatus(ctx, id, true)
			if err != nil {
				return inspection{}, fmt.Errorf("inspect pod %s: %w", id, plain(err))
			}
			return inspection{resp.Status, resp.Info}, nil
		})
}

func (t *tool) inspectImageCommand() *cobra.Command {
	return t.inspecting("inspecti IMAGE...", "Print all about images, as JSON",
		func(ctx context.Context, c *client, arg string) (inspection, error) {
			i, err := c.image(ctx, arg)
			if err != nil {
				return inspection{}, err
			}
			resp, err := c.images.ImageStatus(ctx, &runtimeapi.ImageSpec{Image: i.Id}, true)
			if err != nil {
				return inspection{}, fmt.Errorf("inspect image %s: %w", i.Id, plain(err))
			}
			if resp.Image == nil {
				return inspection{}, fmt.Errorf("inspect image %s: it was removed meanwhile", i.Id)
			}
			return inspection{resp.Image, resp.Info}, nil
		})
}

func (t *tool) inspecting(use, short string, inspect func(context.Context, *client, string) (inspection, error)) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Args:  takes(1, -1),
		RunE: t.connected(func(ctx context.Context, c *client, cmd *cobra.Command, args []string) error {
			var errs []error
			for _, a := range args {
				i, err := inspect(ctx, c, a)
				if err == nil {
					var v any
					if v, err = i.value(); err == nil {
						err = writeJSON(cmd.OutOrStdout(), v)
					}
				}
				errs = append(errs, err)
			}
			return errors.Join(errs...)
		}),
	}
}

// value is as crictl has it: times as text, and what the runtime adds as what it is.
func (i inspection) value() (map[string]any, error) {
	b, err := protoJSON(i.status)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var status map[string]any
	if err := d.Decode(&status); err != nil {
		return nil, fmt.Errorf("read JSON: %w", err)
	}
	for _, key := range []string{"createdAt", "startedAt", "finishedAt"} {
		if text, ok := status[key].(string); ok {
			status[key] = timeText(text)
		}
	}
	v := map[string]any{"status": status}
	if len(i.info) != 0 {
		v["info"] = infoValue(i.info)
	}
	return v, nil
}

// timeText is a time in nanoseconds since 1970 for people.
func timeText(nanos string) string {
	n, err := strconv.ParseInt(nanos, 10, 64)
	switch {
	case err != nil:
		return nanos
	case n == 0:
		return "" // it has not happened
	}
	return time.Unix(0, n).UTC().Format(time.RFC3339Nano)
}

// infoValue has values that are JSON within JSON as such.
func infoValue(info map[string]string) map[string]any {
	v := make(map[string]any, len(info))
	for key, text := range info {
		if json.Valid([]byte(text)) {
			v[key] = json.RawMessage(text)
		} else {
			v[key] = text
		}
	}
	return v
}

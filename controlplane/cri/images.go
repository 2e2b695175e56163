// SPDX-License-Identifier: Apache-2.0

package cri

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func (t *tool) imagesCommand() *cobra.Command {
	var out *output
	cmd := &cobra.Command{
		Use:     "images [NAME]",
		Aliases: []string{"image"},
		Short:   "List images, or those with this in their name",
		Args:    takes(0, 1),
		RunE: t.connected(func(ctx context.Context, c *client, cmd *cobra.Command, args []string) error {
			list, err := c.listImages(ctx)
			if err != nil {
				return err
			}
			if len(args) == 1 {
				list = slices.DeleteFunc(list, func(i *runtimeapi.Image) bool { return !named(i, args[0]) })
			}
			return showImages(cmd, list, out)
		}),
	}
	out = addOutput(cmd, "table", "wide", "json")
	cmd.PreRunE = func(*cobra.Command, []string) error { return out.check() }
	return cmd
}

func (c *client) listImages(ctx context.Context) ([]*runtimeapi.Image, error) {
	list, err := c.images.ListImages(ctx, nil)
	if err != nil {
		return nil, fmt.Errorf("list images: %w", plain(err))
	}
	slices.SortFunc(list, func(a, b *runtimeapi.Image) int {
		return cmp.Or(slices.Compare(a.RepoTags, b.RepoTags), slices.Compare(a.RepoDigests, b.RepoDigests), cmp.Compare(a.Id, b.Id))
	})
	return list, nil
}

func named(i *runtimeapi.Image, part string) bool {
	return slices.ContainsFunc(slices.Concat(i.RepoTags, i.RepoDigests), func(name string) bool {
		return strings.Contains(name, part)
	})
}

func showImages(cmd *cobra.Command, list []*runtimeapi.Image, out *output) error {
	w := cmd.OutOrStdout()
	switch {
	case out.json():
		return writeProto(w, &runtimeapi.ListImagesResponse{Images: list})
	case out.quiet:
		return writeIDs(w, imageIDs(list))
	}
	header := []string{"IMAGE", "TAG", "IMAGE ID", "SIZE"}
	if out.wide() {
		header = append(header, "DIGEST", "PINNED")
	}
	rows := newTable(w, header...)
	for _, i := range list {
		digest := ""
		for _, d := range i.RepoDigests {
			_, digest, _ = strings.Cut(d, "@")
		}
		for _, name := range imageNames(i) {
			cells := []string{name.repository, name.tag, out.id(i.Id), size(i.GetSize())}
			if out.wide() {
				cells = append(cells, digest, strconv.FormatBool(i.Pinned))
			}
			rows.row(cells...)
		}
	}
	return rows.flush()
}

// tagged is a name of an image in its two parts.
type tagged struct{ repository, tag string }

// imageNames are an image's tags. Without one it has the repository that it was
// pulled from by its digest, if any.
func imageNames(i *runtimeapi.Image) []tagged {
	var names []tagged
	for _, t := range i.RepoTags {
		// The last colon, for a registry's port has one, too.
		n := strings.LastIndex(t, ":")
		if n < strings.LastIndex(t, "/") || n < 0 {
			n = len(t)
		}
		names = append(names, tagged{t[:n], strings.TrimPrefix(t[n:], ":")})
	}
	if len(names) == 0 {
		var n tagged
		for _, d := range i.RepoDigests {
			n.repository, _, _ = strings.Cut(d, "@")
		}
		names = append(names, n)
	}
	return names
}

func imageIDs(list []*runtimeapi.Image) []string {
	ids := make([]string, len(list))
	for i, x := range list {
		ids[i] = x.Id
	}
	return ids
}

// image finds an image by a name as it may stand in a pod, by its id, or by the
// beginning of it.
func (c *client) image(ctx context.Context, want string) (*runtimeapi.Image, error) {
	if want == "" {
		return nil, errors.New("empty name of an image: see `" + images.list + "`")
	}
	// A name first: short names are completed as pods' are.
	resp, nameErr := c.images.ImageStatus(ctx, &runtimeapi.ImageSpec{Image: want}, false)
	if nameErr == nil && resp.GetImage() != nil {
		return resp.Image, nil
	}
	list, err := c.listImages(ctx)
	if err != nil {
		return nil, err
	}
	ids := imageIDs(list)
	for i, id := range ids {
		ids[i] = strings.TrimPrefix(id, "sha256:")
	}
	id, err := images.pick(strings.TrimPrefix(want, "sha256:"), ids)
	switch {
	case err == nil:
		return list[slices.Index(ids, id)], nil
	case nameErr != nil:
		return nil, fmt.Errorf("look up image %s: %w", want, plain(nameErr))
	case slices.ContainsFunc(ids, func(id string) bool { return strings.HasPrefix(id, strings.TrimPrefix(want, "sha256:")) }):
		return nil, err // ambiguous
	}
	return nil, fmt.Errorf("no image %q on this node: see `%s`", want, images.list)
}

func (t *tool) pullCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "pull IMAGE...",
		Short: "Pull images, with the mirrors and credentials of the node's configuration",
		Args:  takes(1, -1),
		RunE: t.connected(func(ctx context.Context, c *client, cmd *cobra.Command, args []string) error {
			var errs []error
			for _, name := range args {
				ref, err := c.images.PullImage(ctx, &runtimeapi.ImageSpec{Image: name}, nil, nil)
				if err != nil {
					errs = append(errs, fmt.Errorf("pull image %s: %w", name, plain(err)))
					continue
				}
				fmt.Fprintf(cmd.OutOrStdout(), "Image is up to date for %s\n", ref)
			}
			return errors.Join(errs...)
		}),
	}
}

// removeImageOptions are the flags of rmi.
type removeImageOptions struct{ all, prune, force bool }

func (t *tool) removeImageCommand() *cobra.Command {
	var o removeImageOptions
	cmd := &cobra.Command{
		Use:   "rmi [--all | --prune | IMAGE...]",
		Short: "Remove images, with all their names",
		RunE: t.connected(func(ctx context.Context, c *client, cmd *cobra.Command, args []string) error {
			return removeImages(ctx, c, cmd, o, args)
		}),
	}
	f := cmd.Flags()
	f.BoolVarP(&o.all, "all", "a", false, "all images but pinned ones")
	f.BoolVarP(&o.prune, "prune", "q", false, "all images that no container uses, but pinned ones")
	f.BoolVarP(&o.force, "force", "f", false, "also an image that is pinned, because every pod needs it")
	cmd.MarkFlagsMutuallyExclusive("all", "prune")
	cmd.Args = func(_ *cobra.Command, args []string) error {
		if (o.all || o.prune) == (len(args) != 0) {
			return errors.New("name images, or use --all or --prune")
		}
		return nil
	}
	return cmd
}

func removeImages(ctx context.Context, c *client, cmd *cobra.Command, o removeImageOptions, args []string) error {
	var list []*runtimeapi.Image
	var errs []error
	if o.all || o.prune {
		var err error
		if list, err = c.removableImages(ctx, o); err != nil {
			return err
		}
	}
	for _, a := range args {
		i, err := c.image(ctx, a)
		switch {
		case err != nil:
			errs = append(errs, err)
		case i.Pinned && !o.force:
			errs = append(errs, fmt.Errorf("image %s is pinned, for pods need it: --force removes it all the same", a))
		default:
			list = append(list, i)
		}
	}
	done := map[string]bool{}
	for _, i := range list {
		if done[i.Id] {
			continue // named twice
		}
		done[i.Id] = true
		if err := c.images.RemoveImage(ctx, &runtimeapi.ImageSpec{Image: i.Id}); err != nil && !gone(err) {
			errs = append(errs, fmt.Errorf("remove image %s: %w", i.Id, plain(err)))
			continue
		}
		for _, name := range append(slices.Clone(i.RepoTags), i.Id) {
			fmt.Fprintf(cmd.OutOrStdout(), "Deleted: %s\n", name)
		}
	}
	return errors.Join(errs...)
}

// removableImages are all images that are not pinned or, to prune, in use.
func (c *client) removableImages(ctx context.Context, o removeImageOptions) ([]*runtimeapi.Image, error) {
	used := map[string]bool{}
	if o.prune {
		var err error
		if used, err = c.usedImages(ctx); err != nil {
			return nil, err
		}
	}
	list, err := c.listImages(ctx)
	return slices.DeleteFunc(list, func(i *runtimeapi.Image) bool {
		return used[i.Id] || i.Pinned && !o.force
	}), err
}

// usedImages are the ids of images that containers were made from, running or not.
func (c *client) usedImages(ctx context.Context) (map[string]bool, error) {
	list, err := c.listContainers(ctx, nil)
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, x := range list {
		// A reference is an id or a name with a digest: containerd knows of which image.
		for _, ref := range []string{x.ImageRef, x.GetImage().GetImage()} {
			if ref == "" || used[ref] {
				continue
			}
			resp, err := c.images.ImageStatus(ctx, &runtimeapi.ImageSpec{Image: ref}, false)
			if err != nil {
				return nil, fmt.Errorf("look up image %s of container %s: %w", ref, x.Id, plain(err))
			}
			if resp.GetImage() != nil {
				used[resp.Image.Id] = true
			}
		}
	}
	return used, nil
}

// SPDX-License-Identifier: Apache-2.0

package load

import (
	"testing"

	"github.com/containerd/containerd/v2/core/images"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestImageName(t *testing.T) {
	for _, tt := range []struct {
		name        string
		annotations map[string]string
		want        string
		wantErr     bool
	}{
		{"nothing", nil, "", false},
		{"containerd's", map[string]string{images.AnnotationImageName: "example.com/a:1"}, "example.com/a:1", false},
		{"short", map[string]string{images.AnnotationImageName: "busybox"}, "docker.io/library/busybox:latest", false},
		{"both", map[string]string{images.AnnotationImageName: "example.com/a:1", ocispec.AnnotationRefName: "1"}, "example.com/a:1", false},
		{"tag alone", map[string]string{ocispec.AnnotationRefName: "1.2"}, "", false},
		{"whole name in OCI's", map[string]string{ocispec.AnnotationRefName: "example.com/a:1"}, "example.com/a:1", false},
		{"short name in OCI's", map[string]string{ocispec.AnnotationRefName: "busybox:1"}, "docker.io/library/busybox:1", false},
		{"not a name", map[string]string{images.AnnotationImageName: "UPPER//x"}, "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := imageName(tt.annotations)
			if got != tt.want || (err != nil) != tt.wantErr {
				t.Errorf("imageName() = %q, %v, want %q, error %t", got, err, tt.want, tt.wantErr)
			}
		})
	}
}

// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"fmt"
	"slices"
	"strings"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/waggle-net/waggle/cni/protocol"
)

// parseArgs reads CNI_ARGS as Kubernetes runtimes give it.
func parseArgs(s string) (pod protocol.Pod, err error) {
	var unknown []string
	ignore := false
	for pair := range strings.SplitSeq(s, ";") {
		if pair == "" {
			continue
		}
		k, v, ok := strings.Cut(pair, "=")
		if !ok {
			return pod, types.NewError(types.ErrInvalidEnvironmentVariables,
				fmt.Sprintf("CNI_ARGS: %q is not KEY=VALUE", pair), "")
		}
		switch k {
		case "K8S_POD_NAMESPACE":
			pod.Namespace = v
		case "K8S_POD_NAME":
			pod.Name = v
		case "K8S_POD_UID":
			pod.UID = v
		case "K8S_POD_INFRA_CONTAINER_ID": // the container ID again
		case "IgnoreUnknown":
			ignore = slices.Contains([]string{"1", "true"}, strings.ToLower(v))
		default:
			unknown = append(unknown, k)
		}
	}
	if len(unknown) > 0 && !ignore {
		return pod, types.NewError(types.ErrInvalidEnvironmentVariables,
			fmt.Sprintf("CNI_ARGS: unknown %s", strings.Join(unknown, ", ")), "remove it or add IgnoreUnknown=1")
	}
	return pod, nil
}

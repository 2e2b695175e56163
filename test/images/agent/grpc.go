// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/http"
)

// grpcHealth is grpc.health.v1.Health/Check, whose answer is one small message: with
// all of gRPC in it, the agent would be three times as large, and there are many.
func (h *handler) grpcHealth(w http.ResponseWriter, _ *http.Request) {
	const serving, notServing = 1, 2
	status := byte(serving)
	if h.sick.Load() {
		status = notServing
	}
	w.Header().Set("Content-Type", "application/grpc")
	w.Header().Set("Trailer", "Grpc-Status")
	// Not compressed, two bytes long: field 1 (status), a varint.
	_, _ = w.Write([]byte{0, 0, 0, 0, 2, 1 << 3, status})
	w.Header().Set("Grpc-Status", "0")
}

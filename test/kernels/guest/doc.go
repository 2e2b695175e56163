// SPDX-License-Identifier: Apache-2.0

// Package guest holds the tests that run inside a test kernel, as process 1's
// only child, with the whole network to themselves. They carry the build tag
// "guest"; test/kernels builds them into one static binary and boots it.
package guest

// SPDX-License-Identifier: Apache-2.0

package image

import _ "embed"

//go:embed pause/pause_arm64
var pauseELF []byte

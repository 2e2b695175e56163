#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Usage: fuzz.sh TIME
#
# Runs every fuzz test of the tree for TIME each: go test -fuzz takes one at a
# time. A failing input is left in the package's testdata/fuzz, ready to commit.
set -euo pipefail

fuzztime=${1:-10s}
count=0
while IFS=: read -r file func; do
	name=${func#func }
	echo "fuzz: $name in $(dirname "$file")"
	"${GO:-go}" test -run '^$' -fuzz "^$name\$" -fuzztime "$fuzztime" "$(dirname "$file")"
	count=$((count + 1))
done < <(grep -roE --include='*_test.go' '^func Fuzz[A-Za-z0-9_]*' . | sort)
echo "fuzz: $count tests, $fuzztime each"

// SPDX-License-Identifier: Apache-2.0

// Package bench measures waggle as its users meet it: in the lab, with the real
// daemon and plugin, real pods and real sockets. What one program costs alone is
// measured in package bpf.
//
// What is compared is measured in turns, in an order that changes from round to
// round, so that whatever else the machine does hits everybody alike; a ratio is
// taken within each round. Values are medians of the rounds, with the least and
// the greatest beside them.
//
//	make bench BENCH=Path      # into bin/bench.txt
//	go run ./test/bench/report bin/bench.txt
package bench

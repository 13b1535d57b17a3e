package datapath

//go:generate go run github.com/cilium/ebpf/cmd/bpf2go -cc clang -strip llvm-strip -target amd64,arm64 -no-global-types -type grant_key -type grant -type local -type counters -type reach_key -type config prog bpf/datapath.c -- -O2 -mcpu=v3 -Wall -Wextra -Werror

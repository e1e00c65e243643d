#!/usr/bin/env bats
# determinism.bats: the counts do not depend on the compiler or its optimisation.

bats_require_minimum_version 1.5.0
load common

# Everything that is counted or modelled, of short runs over all strategies.
counts() { # counts PROGRAM
    for paging in $("$1" list paging --names); do
        "$1" run --paging "$paging" --workload gups --set size=8M --set updates=20000 --mem 64M --json
        "$1" run --paging "$paging" --workload forkcow --set procs=8 --mem 128M --guest-page thp --json
        for page in 2m 4k; do # what a strategy has: a native one no host pages, others tables without levels
            "$1" run --paging "$paging" --workload switch --cpu zen3 --set switches=200 --mem 128M \
                --host-page $page --json && break
        done
        for levels in "5 5" "5 4" "4 4"; do
            "$1" run --paging "$paging" --workload touch --set pages=2048 --set rounds=4 --mem 64M \
                --levels "${levels% *}" --host-levels "${levels#* }" --set run.hash=1 --json && break
        done
    done | jq -c '[.paging, .workload, .outcome, .counters, .phases, .cycles, .memory_hash]'
}

@test "clang -O0 counts what gcc -O2 counts" {
    command -v clang > /dev/null || skip "clang is missing: apt-get install clang"
    tree=$repo/build-clang-O0
    run env -u MAKEFLAGS -u MAKELEVEL make -C "$repo" --no-print-directory B="$tree" CC=clang OPT=-O0 "$tree/nestbed"
    grep error <<< "$output" | head || true
    [ "$status" -eq 0 ]
    counts "$nestbed" > here
    counts "$tree/nestbed" > there
    [ "$(wc -l < here)" -ge 12 ]
    cmp here there
}

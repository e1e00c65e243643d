#!/usr/bin/env bats
# fuzz.bats: `nestbed fuzz`: random programs, replays, and what is refused.

bats_require_minimum_version 1.5.0
load common

@test "random programs under every strategy" {
    run --separate-stderr "$nestbed" fuzz --seed 11 --programs 60 --json
    [ "$status" -eq 0 ]
    [ -z "$stderr" ]
    jq -e '.schema == "nestbed-fuzz/1" and .failure == null and .programs == 60 and .accesses > .certain and
        .certain > 0 and (.paging | index("native") and index("shadow") and index("ept"))' <<< "$output"
}

@test "the same seed is the same work, on any number of cores" {
    one=$("$nestbed" fuzz --seed 5 --programs 20 -j 1 --json)
    three=$("$nestbed" fuzz --seed 5 --programs 20 -j 3 --json)
    other=$("$nestbed" fuzz --seed 6 --programs 20 -j 3 --json)
    [ "$one" = "$three" ]
    [ "$(jq .accesses <<< "$one")" != "$(jq .accesses <<< "$other")" ]
}

@test "kernel programs and raw ones, apart and together" {
    raw=$("$nestbed" fuzz --seed 5 --programs 10 --kind raw --json)
    kernel=$("$nestbed" fuzz --seed 5 --programs 10 --kind kernel --json)
    both=$("$nestbed" fuzz --seed 5 --programs 20 --json)
    jq -e '.kind == "kernel" and .engine == "model" and .accesses == .certain and .accesses > 1000' <<< "$kernel"
    jq -e '.kind == "raw" and .accesses > .certain' <<< "$raw"
    jq -e '.kind == "both" and .failure == null' <<< "$both"
}

@test "a kernel program replayed on every machine" {
    run --separate-stderr "$nestbed" fuzz --json --replay - << 'END'
kernel 4
map 0x10000000 0x3000 1 3     # GK_FIXED; read and write
store 0x10000008 7
fork
store 0x10000008 8            # copy on write
switch 1
load 0x10000008
protect 0x10000000 4096 1
store 0x10000008 9            # refused
load 0x40000000               # not mapped
move 512 64
sweep 0x10000000 3 4104
exit 1
load 0x10000008
END
    [ "$status" -eq 0 ]
    jq -e '.failure == null and .programs == 1 and .runs >= 100 and .accesses == .certain' <<< "$output"
}

@test "programs that once failed" {
    for file in "$BATS_TEST_DIRNAME"/../data/fuzz-*.txt; do
        run --separate-stderr "$nestbed" fuzz --replay "$file"
        echo "$file: $output"
        [ "$status" -eq 0 ]
        [[ $output == "1 program on "* ]]
    done
}

@test "a program from the standard input, on one strategy" {
    run --separate-stderr "$nestbed" fuzz --paging native --replay - <<< $'raw 4\nload 0x1000 user # faults'
    [ "$status" -eq 0 ]
    [[ $output == "1 program on 1 strategy: "* ]]
}

@test "what is no program, and what is no strategy" {
    run --separate-stderr "$nestbed" fuzz --replay - <<< $'raw 4\nlod 0x1000 user'
    [ "$status" -eq 65 ]
    [[ $stderr == *"-:2: no such operation of a raw program"* ]]
    run --separate-stderr "$nestbed" fuzz --replay - <<< 'load 0x1000 user'
    [ "$status" -eq 65 ]
    run --separate-stderr "$nestbed" fuzz --replay /nonexistent
    [ "$status" -eq 66 ]
    run --separate-stderr "$nestbed" fuzz --paging shadwo
    [ "$status" -eq 64 ]
    [[ $stderr == *"did you mean 'shadow'"* ]]
    run --separate-stderr "$nestbed" fuzz --programs 0
    [ "$status" -eq 64 ]
    run --separate-stderr "$nestbed" fuzz --kind cooked
    [ "$status" -eq 64 ]
    run --separate-stderr "$nestbed" fuzz --engine kvm --kind raw
    [ "$status" -eq 64 ]
    run --separate-stderr "$nestbed" fuzz --engine labvm
    [ "$status" -eq 64 ]
    [[ $stderr == *"nestbed labvm run -- fuzz --engine kvm"* ]]
}

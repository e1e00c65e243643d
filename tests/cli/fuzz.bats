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
    [[ $stderr == *"-:2: no such operation"* ]]
    run --separate-stderr "$nestbed" fuzz --replay - <<< 'load 0x1000 user'
    [ "$status" -eq 65 ]
    run --separate-stderr "$nestbed" fuzz --replay /nonexistent
    [ "$status" -eq 66 ]
    run --separate-stderr "$nestbed" fuzz --paging shadwo
    [ "$status" -eq 64 ]
    [[ $stderr == *"did you mean 'shadow'"* ]]
    run --separate-stderr "$nestbed" fuzz --programs 0
    [ "$status" -eq 64 ]
}
